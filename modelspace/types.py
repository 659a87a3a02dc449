"""Plain values passed between modules. Nothing here imports torch, duckdb or faiss."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from modelspace import deprecated
from modelspace.errors import UsageError
from modelspace.late import dataclass

CHANNEL_ORDERS = ("rgb", "bgr", "gray", "rgba")
CROPS = ("center", "squash", "border")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
LAYOUTS = ("nchw", "nhwc")

#: Mean and standard deviation of ImageNet's training images, red, green and blue, for values in 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Increase it when the same inputs would give different maps: spaces of different versions are never mixed.
EMBEDDING_VERSION = 1

#: Bits per map element that `modelspace.representations.maps` can store.
BITS = (1, 2, 3, 4, 8, 16, 32)

#: The scalar of the encoder output T that an attribution method explains: ΣT as in the paper; ½|T|², a backward pass
#: seeded with T; or the same for T minus its per-channel mean over the probe images.
SCALARS = ("sum", "energy", "centred_energy")


def canonical_json(value: Any) -> str:
    """JSON with exactly one text per value: sorted keys, no spaces, no NaN. Hashes are computed from it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class ExtraInput:
    """An additional input of a model, the same for every probe image.

    Attributes:
        name: name of the argument of the module's `forward`.
        value: a number or a bool; without a shape also a string or None.
        shape: shape of the tensor filled with `value`, without the batch axis; None: `value` itself is passed. An int
            fills an int64 tensor, a bool a bool tensor, a float one of the image's dtype.
    """

    name: str
    value: float | int | bool | str | None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UsageError(
                f"{self.name!r} is not the name of an argument", "name an argument of the model's forward()"
            )
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
            if not isinstance(self.value, int | float) or min(self.shape, default=1) < 1:
                raise UsageError(
                    f"the input {self.name} can't be made: a tensor {self.shape} filled with {self.value!r}",
                    'write it like {"shape": [1, 224, 224], "value": 1.0}',
                )
        elif not (self.value is None or isinstance(self.value, int | float | str)):
            raise UsageError(
                f"the input {self.name} is a {type(self.value).__name__}, not a number, a bool or a string"
            )

    def to_json(self) -> Any:
        """The form that `extra_inputs` reads."""
        return self.value if self.shape is None else {"shape": list(self.shape), "value": self.value}


def extra_inputs(value: Any) -> tuple[ExtraInput, ...]:
    """Additional inputs from a mapping of their names to values, sorted by name.

    >>> extra_inputs({"mask": {"shape": [1, 8, 8], "value": 1.0}, "train": False})
    (ExtraInput(name='mask', value=1.0, shape=(1, 8, 8)), ExtraInput(name='train', value=False, shape=None))
    """
    if isinstance(value, Mapping):
        inputs = []
        for name, entry in value.items():
            if isinstance(entry, Mapping):
                if set(entry) != {"shape", "value"}:
                    raise UsageError(
                        f"the input {name} needs a shape and a value, and nothing else",
                        'write it like {"shape": [1, 224, 224], "value": 1.0}',
                    )
                inputs.append(ExtraInput(str(name), entry["value"], tuple(entry["shape"])))
            else:
                inputs.append(ExtraInput(str(name), entry))
        value = inputs
    if not isinstance(value, list | tuple) or not all(isinstance(entry, ExtraInput) for entry in value):
        raise UsageError("additional inputs must be a mapping from argument to value", 'for example {"mask": {...}}')
    return tuple(sorted(value, key=lambda entry: entry.name))


@dataclass(frozen=True)
class Placement:
    """Position of a model's input in the resized probe image, in pixels of the resized image.

    Attributes:
        resized: (height, width) of the whole image after resizing.
        top, left: origin of the input; negative if a border was added around the image.
    """

    resized: tuple[int, int]
    top: int
    left: int


def _sides(name: str, value: Any, example: int) -> tuple[int, int]:
    """(height, width) from a side or from both.

    Raises:
        UsageError: it is neither; the hint has `example`.
    """
    try:
        sides = (int(value), int(value)) if isinstance(value, Integral) else tuple(int(side) for side in value)
    except (TypeError, ValueError, OverflowError):
        sides = ()
    if len(sides) != 2 or min(sides) < 1:
        field_name = name.replace("_", " ")
        raise UsageError(
            f"{field_name} {value!r} is neither a side nor (height, width) in pixels",
            f"example: `{name}={(example, example)}`",
        )
    return sides[0], sides[1]


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """The numbers of a field; a single number is a list of one."""
    try:
        return (float(value),) if isinstance(value, Real) else tuple(float(number) for number in value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{name.replace('_', ' ')} {value!r} is not a list of numbers", "write it like (0.5, 0.5, 0.5)"
        ) from None


@dataclass(frozen=True)
class Preprocessing:
    """How an 8-bit RGB probe image becomes a model's input.

    The image is resized (antialiased) and, with `resize`, cropped around its centre; its channels are put in the order
    `channels` ("gray" is the ITU-R BT.601 luma), and each value u in 0..255 becomes
    ``(lo + (hi - lo) * u / 255 - mean) / std``.

    Mean and std are required, since wrong ones change rankings: `imagenet` and `raw` are the two most common cases.

    >>> Preprocessing.imagenet(224).mean
    (0.485, 0.456, 0.406)
    >>> Preprocessing.raw(28, channels="gray").std
    (1.0,)

    Attributes:
        input_size: (height, width) of the model's input in pixels; also accepts the side of a square.
        mean: one value per channel, in units of `value_range`; required.
        std: one value per channel, in units of `value_range`; not zero; required.
        channels: "rgb", "bgr", "gray", or "rgba": red, green, blue and a constant fourth channel, `alpha`.
        value_range: (lo, hi), what 0 and 255 become before mean and std.
        resize: (height, width) to resize to before the crop; None: resize directly to `input_size`, which may change
            the aspect ratio.
        crop: how the image is fitted to the box `resize`. "center": keep the aspect ratio and cover the box; for a
            square box, the shorter side becomes its side. "squash": resize to the box. "border": keep the aspect ratio
            and fit inside the box. Then the centre, of `input_size`, is cropped. Missing pixels are black, or `mean`
            with "border".
        interpolation: "bilinear", "bicubic" (a = -0.5, clipped to 0..255) or "nearest".
        layout: "nchw" or "nhwc", the order of the input's axes.
        alpha: value of the fourth channel of "rgba", after mean and std.
        inputs: additional inputs of the model; also accepts a mapping, as `extra_inputs` does.
    """

    input_size: tuple[int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: str = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)
    resize: tuple[int, int] | None = None
    crop: str = "center"
    interpolation: str = "bilinear"
    layout: str = "nchw"
    alpha: float = 1.0
    inputs: tuple[ExtraInput, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self,
            input_size: int | Sequence[int],
            mean: float | Sequence[float],
            std: float | Sequence[float],
            channels: str = "rgb",
            value_range: Sequence[float] = (0.0, 1.0),
            resize: int | Sequence[int] | None = None,
            crop: str = "center",
            interpolation: str = "bilinear",
            layout: str = "nchw",
            alpha: float = 1.0,
            inputs: Sequence[ExtraInput] | Mapping[str, Any] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", _sides("input_size", self.input_size, 224))
        for name in ("mean", "std", "value_range"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        object.__setattr__(self, "alpha", float(self.alpha))
        object.__setattr__(self, "inputs", extra_inputs(self.inputs))
        self._check_words()
        self._check_required()
        self._check_numbers()
        self._normalize_resize()

    def _check_words(self) -> None:
        if self.channels not in CHANNEL_ORDERS:
            raise UsageError(f"channel order {self.channels!r} is not known", "use `channels=` rgb, bgr, gray or rgba")
        for name, known in (("crop", CROPS), ("interpolation", INTERPOLATIONS), ("layout", LAYOUTS)):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} {getattr(self, name)!r} is not known",
                    f"use `{name}=` {', '.join(known[:-1])} or {known[-1]}",
                )

    def _check_required(self) -> None:
        missing = [name for name in ("mean", "std") if not getattr(self, name)]
        if missing:
            size = self.input_size[0] if len(set(self.input_size)) == 1 else self.input_size
            raise UsageError(
                f"the {' and '.join(missing)} of the preprocessing {'is' if len(missing) == 1 else 'are'} not given, "
                "and never guessed",
                "write those that the model was trained with, for example `mean=(0.5, 0.5, 0.5)` and "
                f"`std=(0.5, 0.5, 0.5)`; in Python, Preprocessing.imagenet({size}) has those of ImageNet, and "
                f"Preprocessing.raw({size}) leaves values in 0..1",
            )

    def _check_numbers(self) -> None:
        if len(self.mean) != self.n_colours or len(self.std) != self.n_colours:
            raise UsageError(
                f"{self.channels} input has {self.n_colours} channel(s), but mean has {len(self.mean)} "
                f"and std has {len(self.std)} values"
                if self.channels != "rgba"
                else f"rgba input has 3 colours, but mean has {len(self.mean)} and std has {len(self.std)} values",
                "give one value per channel, for example `mean=(0.485, 0.456, 0.406)`",
            )
        lo, hi = self.value_range if len(self.value_range) == 2 else (0.0, 0.0)
        numbers = (*self.mean, *self.std, lo, hi, self.alpha)
        if not all(math.isfinite(v) for v in numbers) or lo == hi or 0.0 in self.std:
            raise UsageError("mean, std and value range must be finite, std not zero, and the range not empty")

    def _normalize_resize(self) -> None:
        """Give equal transforms equal fields: squashing to the input size is the same as no `resize`."""
        size = self.input_size if self.resize is None and self.crop == "border" else self.resize
        box = None if size is None else _sides("resize", size, 256)
        if box is None or (box == self.input_size and self.crop == "squash"):
            object.__setattr__(self, "crop", "center")
            box = None
        object.__setattr__(self, "resize", box)

    @classmethod
    def imagenet(cls, input_size: int | Sequence[int], **fields: Any) -> Preprocessing:
        """Mean and standard deviation of ImageNet's images, on values in 0..1.

        Args:
            input_size: side, or (height, width), in pixels.
            **fields: the others, such as `resize`; nothing is resized and cropped by default.
        """
        return cls(input_size, IMAGENET_MEAN, IMAGENET_STD, **fields)

    @classmethod
    def raw(cls, input_size: int | Sequence[int], **fields: Any) -> Preprocessing:
        """Values as they are, in 0..1 or in the given `value_range`: mean 0 and standard deviation 1.

        Args:
            input_size: side, or (height, width), in pixels.
            **fields: the others, such as `channels` or `value_range`.
        """
        n_colours = 1 if fields.get("channels") == "gray" else 3
        return cls(input_size, (0.0,) * n_colours, (1.0,) * n_colours, **fields)

    @property
    def n_colours(self) -> int:
        """Number of channels taken from the image, and of values in `mean` and `std`."""
        return 1 if self.channels == "gray" else 3

    @property
    def n_channels(self) -> int:
        """Number of channels of the model's input, alpha included."""
        return self.n_colours + (self.channels == "rgba")

    def placement(self, image: tuple[int, int]) -> Placement:
        """Position of the input in an image of size (height, width) `image`.

        Sides and offsets are rounded as torchvision's `Resize` and `CenterCrop` do.

        >>> Preprocessing.imagenet(224, resize=256).placement((64, 64))
        Placement(resized=(256, 256), top=16, left=16)
        """
        if self.resize is None:
            return Placement(self.input_size, 0, 0)
        resized = self.resize
        if self.crop != "squash":
            ratios = [box / side for box, side in zip(self.resize, image, strict=True)]
            ratio = max(ratios) if self.crop == "center" else min(ratios)
            # The side that sets the ratio is exact; the other is rounded down, with a tolerance for rounding errors.
            sides = [
                box if side_ratio == ratio else max(1, math.floor(side * ratio + 1e-6))
                for box, side, side_ratio in zip(self.resize, image, ratios, strict=True)
            ]
            resized = (sides[0], sides[1])
        offsets = [
            round((before - after) / 2) if before >= after else -((after - before) // 2)
            for before, after in zip(resized, self.input_size, strict=True)
        ]
        return Placement(resized, offsets[0], offsets[1])

    def to_dict(self) -> dict[str, Any]:
        """The stored and hashed form. Fields added after the first five are included only if not at their default."""
        value: dict[str, Any] = {
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": self.channels,
            "value_range": list(self.value_range),
        }
        if self.resize is not None:
            value |= {"resize": list(self.resize), "crop": self.crop}
        if self.interpolation != "bilinear":
            value["interpolation"] = self.interpolation
        if self.layout != "nchw":
            value["layout"] = self.layout
        if self.channels == "rgba":
            value["alpha"] = self.alpha
        if self.inputs:
            value["inputs"] = {entry.name: entry.to_json() for entry in self.inputs}
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`; sizes may also be a single int.

        Raises:
            UsageError: an unknown entry, one of the wrong form, or no input_size, mean or std.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := set(value) - known:
            raise UsageError(f"preprocessing has unknown entries: {', '.join(sorted(unknown))}")
        if "input_size" not in value:
            raise UsageError("preprocessing needs input_size")
        try:
            return cls(**value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"preprocessing has an entry of the wrong form: {error}") from None


@dataclass(frozen=True)
class SpaceSpec:
    """Everything that must be equal for two models' vectors to be comparable.

    Attributes:
        name: display name; not part of the identity.
        probe_id: fingerprint of the probe set (`modelspace.probes`).
        method: an attribution method, a kernel of the encoder output, or "blend"; see `modelspace.spaces.kinds`.
        n_images: number of probe images used, from the start of the set.
        canvas: side of the square that all maps are resampled to, in pixels; 0 if the space has no maps.
        bits: bits per stored element, one of `BITS`.
        scalar: the explained scalar of the encoder output T, one of `SCALARS`; "sum" is the paper's.
        parameters: parameters of the method, for example {"epsilon": 1e-4}. For a blend: "members", space id to weight,
            where the weights sum to 1, and its ranking: "hubs" (`modelspace.spaces.hubness`) and "rerank"
            (`modelspace.spaces.predictability`).
        version: version of the embedding code.
    """

    name: str
    probe_id: str
    method: str
    n_images: int
    canvas: int
    bits: int = 8
    scalar: str = "sum"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: int = EMBEDDING_VERSION

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(
                f"{self.bits} bits per map element can't be stored", f"use `bits=` {', '.join(map(str, BITS))}"
            )
        if self.scalar not in SCALARS:
            raise UsageError(f"scalar {self.scalar!r} is not known", f"use {', '.join(SCALARS)}")
        if self.n_images < 1:
            raise UsageError(f"a space needs at least one probe image, not {self.n_images}")

    def identity(self) -> dict[str, Any]:
        """The values that are hashed into `space_id`."""
        return {
            "probe_id": self.probe_id,
            "method": self.method,
            "n_images": self.n_images,
            "canvas": self.canvas,
            "bits": self.bits,
            "scalar": self.scalar,
            "parameters": dict(self.parameters),
            "version": self.version,
        }

    def __getattr__(self, name: str) -> Any:
        return deprecated.attribute_of_a_spec(self, name)

    @cached_property
    def space_id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LayerChoice:
    """How the tapped layer of a model was chosen; stored as text in `ModelCard.layer_found_by`.

    Attributes:
        pattern: the name or pattern given by the user, or None.
        remarks: for a given layer, which of several matches it is; otherwise how it was found.

    >>> LayerChoice.from_text("--layer conv* (the last of 3 executed layers that match)")
    LayerChoice(pattern='conv*', remarks=('the last of 3 executed layers that match',))
    """

    pattern: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether the user named the layer."""
        return self.pattern is not None

    @property
    def in_message(self) -> str:
        """The text for messages, which use parameter names (`modelspace.errors`)."""
        return self._with_remarks(f"`layer={self.pattern!r}`") if self.given else str(self)

    def __str__(self) -> str:
        """The text stored in the registry."""
        return self._with_remarks(f"{_GIVEN}{self.pattern}") if self.given else "; ".join(self.remarks)

    def _with_remarks(self, text: str) -> str:
        return text + "".join(f" ({remark})" for remark in self.remarks)

    @classmethod
    def from_text(cls, text: str) -> LayerChoice:
        """The inverse of `str`."""
        match = re.fullmatch(rf"{_GIVEN}(.*?)((?: \(the last of [^()]*\))*)", text, re.DOTALL)
        if match is None:
            return cls(None, (text,) if text else ())
        return cls(match[1], tuple(re.findall(r"\((.*?)\)", match[2])))


#: Prefix of the stored text of a user-given layer: a file format, independent of the flag's name.
_GIVEN = "--layer "


@dataclass(frozen=True)
class ModelCard:
    """The metadata of a model; one row of the table `models`.

    Attributes:
        name: unique in the registry.
        uri: where it was loaded from, for example "zoo:depth".
        weights_sha256: hash of the tensors' names, types, shapes and bytes (`modelspace.sources.weights_sha256`).
        layer: the tapped tensor, for example "fc:in" or "output".
        layer_found_by: how the layer was chosen (`LayerChoice` as text), for example "input of the last linear map".
        output_shape: shape of T for one image, without the batch axis.
        preprocessing: how a probe image becomes the model's input.
        parameters: number of parameters.
        architecture, task, data: for queries; may be unknown.
        seconds: wall time of the embedding pass.
        tags: arbitrary key-value pairs.
        code_sha256: fingerprint of the code of the forward pass, or of the file that holds it; "" if all of it is from
            installed packages.
        options: how the model was run, if not as loaded: "float32" (true: half-precision parts run in float32) and
            "stochastic" (number of random passes that were averaged), "dtype" ("bf16").
        torch: version of torch that ran the embedding pass; "" if unknown.
    """

    name: str
    uri: str
    weights_sha256: str
    layer: str
    layer_found_by: str
    output_shape: tuple[int, ...]
    preprocessing: Preprocessing
    parameters: int
    architecture: str = ""
    task: str | None = None
    data: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    code_sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    torch: str = ""

    @property
    def layer_choice(self) -> LayerChoice:
        """How the layer was chosen."""
        return LayerChoice.from_text(self.layer_found_by)

    def identity(self) -> str:
        """Hash of weights, code, tapped layer, preprocessing and options; equal identities mean equal maps."""
        value = {"weights": self.weights_sha256, "layer": self.layer, "preprocessing": self.preprocessing.to_dict()}
        # Only if not empty, so that the identities of models stored by earlier versions stay the same.
        if self.code_sha256:
            value["code"] = self.code_sha256
        if self.options:
            value["options"] = dict(self.options)
        return hashlib.sha256(canonical_json(value).encode()).hexdigest()

    def is_same_model(self, other: ModelCard) -> bool:
        """Whether another card describes the same computation.

        Cards from registries of earlier versions have no code fingerprint; then the code is not compared.
        """
        if not self.code_sha256 or not other.code_sha256:
            return replace(self, code_sha256="").identity() == replace(other, code_sha256="").identity()
        return self.identity() == other.identity()

    def differences(self, other: ModelCard) -> list[str]:
        """Names of the parts of the computation that differ from another card's."""
        entries = {
            "weights_sha256": "weights",
            "code_sha256": "code",
            "layer": "layer",
            "preprocessing": "preprocessing",
            "options": "options",
        }
        return [label for entry, label in entries.items() if getattr(self, entry) != getattr(other, entry)]


__getattr__ = deprecated.renamed(
    __name__,
    {"BLEND": "modelspace.spaces.kinds.BLEND", "GEOMETRIES": "modelspace.representations.kernels.METHODS"},
)
