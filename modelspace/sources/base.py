"""What every source yields, and the rules that all sources share.

A source is one module of this package with one function::

    def load(rest: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel

`rest` is the address without its scheme. The function loads the module, gathers what is known about it, and ends with
`describe`, which settles the preprocessing and takes the fingerprint of the weights. A package that it needs is
imported at the top of the file: if it is missing, the caller is told to install it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modelspace.errors import ModelspaceError, UsageError
from modelspace.names import to_name
from modelspace.sources.code import code_sha256
from modelspace.sources.fields import FIELDS, stating
from modelspace.types import ExtraInput, Preprocessing, canonical_json, extra_inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Scheme of the addresses that name a module handed over in Python. Nothing can be loaded from them.
LIVE_SCHEME = "live"

#: Attributes by which a module tells about itself. Each is optional.
PREPROCESSING_ATTRIBUTES = ("modelspace_preprocessing", "preprocessing")
INPUTS_ATTRIBUTE = "modelspace_inputs"
TEXT_ATTRIBUTES = {"layer": "modelspace_layer", "task": "modelspace_task", "data": "modelspace_data"}

#: Fields that have no default.
_NEEDED = ("input_size", "mean", "std")


@dataclass(frozen=True)
class SourceInfo:
    """One row of `modelspace.sources.SOURCES`.

    Attributes:
        scheme: what stands before the first colon of an address.
        module: the Python module that loads such addresses.
        summary: what is found there, for help texts.
        example: an address.
        extra: the extra of the package that installs what it needs, for example "timm"; empty: nothing more is needed.
        runs_code: whether its files can carry code of their author's. Its `load` takes a fourth argument, `trusted`: the
            SHA-256 of the file that the user trusts, or None.
    """

    scheme: str
    module: str
    summary: str
    example: str
    extra: str = ""
    runs_code: bool = False


@dataclass
class LoadedModel:
    """A torch module and what is known about it.

    Attributes:
        module: the model, in the mode (train or eval) that its source left it in. On the CPU, unless it was handed over
            in Python on another device.
        preprocessing: how a probe image becomes its input.
        uri: its address. A file path in it is kept as it was given, and a relative one is looked up from the current
            folder.
        suggested_name: a valid name for the registry.
        weights_sha256: see `weights_sha256`.
        parameters: number of parameters; shared ones count once.
        architecture: for example the name of the module's class.
        layer: the layer that the source or the module advises to tap; None: to be found.
        task: what the model was trained to do.
        data: what it was trained on.
        code_sha256: see `modelspace.sources.code`; of a file that holds the computation itself, the file's hash.
        tags: anything else. "weights" is the weights file as it was given, so that
            ``load(uri, weights=tags.get("weights"))`` loads the same model again.
    """

    module: nn.Module
    preprocessing: Preprocessing
    uri: str
    suggested_name: str
    weights_sha256: str
    parameters: int
    architecture: str
    layer: str | None = None
    task: str | None = None
    data: str | None = None
    code_sha256: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreprocessingFlags:
    """Fields of `modelspace.types.Preprocessing` that somebody states; None: not stated.

    Attributes:
        input_size: (height, width) in pixels.
        mean: one value per channel, in units of `value_range`.
        std: one value per channel, in units of `value_range`.
        channels: "rgb", "bgr", "gray" or "rgba".
        value_range: (lo, hi).
        resize: (height, width) before the crop.
        crop: "center", "squash" or "border".
        interpolation: "bilinear", "bicubic" or "nearest".
        layout: "nchw" or "nhwc".
        alpha: value of the fourth channel of "rgba".
        inputs: further inputs, as in `modelspace.types.extra_inputs`.
    """

    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    value_range: tuple[float, float] | None = None
    resize: tuple[int, int] | None = None
    crop: str | None = None
    interpolation: str | None = None
    layout: str | None = None
    alpha: float | None = None
    inputs: tuple[ExtraInput, ...] | None = None

    @classmethod
    def parse(cls, **texts: str | None) -> PreprocessingFlags:
        """From one text for each field, written as on a command line.

        Args:
            texts: by the names of `modelspace.sources.fields.FIELDS`: "224" or "192x256" (height x width) for
                `input_size` and `resize`; numbers with commas between them for `mean`, `std` and `value_range`; a word
                or a number for the others. None: not stated.

        Raises:
            UsageError: a text that can't be read; names the field.
            TypeError: a field of another name.
        """
        if unknown := sorted(set(texts) - set(FIELDS)):
            raise TypeError(f"parse() got an unexpected keyword argument {unknown[0]!r}")
        return cls(**{name: FIELDS[name].read(text) for name, text in texts.items() if text is not None})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PreprocessingFlags:
        """From a mapping with some of the fields. `input_size` may be one side.

        Raises:
            UsageError: an unknown field, or a value of the wrong form.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(set(map(str, value)) - set(known)):
            raise UsageError(
                f"preprocessing has unknown entries: {', '.join(unknown)}", f"the entries are {', '.join(known)}"
            )
        stated = {key: entry for key, entry in value.items() if entry is not None}
        try:
            stated = {
                key: extra_inputs(entry) if key == "inputs" else FIELDS[key].form.settle(entry)
                for key, entry in stated.items()
            }
        except (TypeError, ValueError) as error:
            raise UsageError(f"preprocessing can't be read: {error}", "give numbers, or lists of numbers") from error
        return cls(**stated)

    def stated(self) -> dict[str, Any]:
        """The fields that are not None."""
        return {entry.name: v for entry in fields(self) if (v := getattr(self, entry.name)) is not None}


def flags_of(value: PreprocessingFlags | Preprocessing | Mapping[str, Any] | None) -> PreprocessingFlags:
    """The fields that a value states: all of a `Preprocessing`, some of a mapping, none of None.

    Raises:
        UsageError: a mapping with unknown fields, or values of the wrong form.
    """
    if isinstance(value, PreprocessingFlags):
        return value
    return PreprocessingFlags.from_dict(value.to_dict() if isinstance(value, Preprocessing) else value or {})


def merge_preprocessing(
    stated: Preprocessing | Mapping[str, Any] | None, flags: PreprocessingFlags, who: str = "the model"
) -> Preprocessing:
    """The preprocessing to use: each flag overrides what is stated, and nothing is guessed.

    1. A field that a flag gives is taken from the flag, any other from `stated`.
    2. `input_size`, `mean` and `std` must come from one of the two.
    3. `channels` and `value_range` give `mean` and `std` their meaning. Where nobody states them they are the
       convention of PyTorch, "rgb" and 0..1, but only if `mean` and `std` agree with it: three values each, and a mean
       within the range.
    4. `resize`, `crop`, `interpolation`, `layout`, `alpha` and `inputs` that nobody states have their defaults: the image
       is resized straight to the input size. A flag that changes the input size where a `resize` is stated needs one
       for `resize` too: the share of the image that is seen would change with it.
    5. A flag that changes stated `channels` or a stated `value_range` needs flags for `mean` and `std` too, where those
       are stated and depend on it: they would keep their numbers and change their meaning.

    Args:
        stated: by the source or the module; a mapping may leave fields out.
        flags: what the user adds.
        who: the model, for the error.

    Raises:
        UsageError: a field is stated by nobody, or the fields contradict each other. The hint has the flags to add.
    """
    own, user = flags_of(stated).stated(), flags.stated()
    merged = {**own, **user}
    if missing := [key for key in _NEEDED if key not in merged]:
        raise UsageError(
            f"nobody states the {_and(missing)} of {who}",
            f"add what it was trained with, for example {_as_usual(missing)}",
        )
    _check_meaning(own, user, who)
    _check_resize(own, user, who)
    _check_convention(merged, who)
    if "crop" in merged and "resize" not in merged:
        merged["resize"] = merged["input_size"]
    return Preprocessing(**merged)


def _check_meaning(own: Mapping[str, Any], user: Mapping[str, Any], who: str) -> None:
    """Rule 5 of `merge_preprocessing`."""
    for key in ("channels", "value_range"):
        kept = [other for other in ("mean", "std") if other not in user and _depends(other, own.get(other), key)]
        if key in own and key in user and user[key] != own[key] and kept:
            raise UsageError(
                f"`{key}=` changes the meaning of the {_and(kept)} that {who} states",
                f"add {_as_usual(kept)} in the new terms",
            )


def _check_resize(own: Mapping[str, Any], user: Mapping[str, Any], who: str) -> None:
    """The second half of rule 4 of `merge_preprocessing`."""
    stated = "resize" in own and "input_size" in own
    if not stated or "resize" in user or user.get("input_size", own["input_size"]) == own["input_size"]:
        return
    resize = tuple(
        round(a * b / c) for a, b, c in zip(own["resize"], user["input_size"], own["input_size"], strict=True)
    )
    raise UsageError(
        f"{who} states that images are resized to {_sides(own['resize'])} and cropped to "
        f"{_sides(own['input_size'])}, and `input_size=` changes the crop alone",
        f"add {stating(resize=resize)}, which keeps the share of the image that is seen",
    )


def _check_convention(merged: Mapping[str, Any], who: str) -> None:
    """Rule 3 of `merge_preprocessing`, and that an alpha has its channel."""
    if "channels" not in merged and len(merged["mean"]) == len(merged["std"]) == 1:
        raise UsageError(
            f"{who} has one mean and one std, but nobody states its channels", f"add {stating(channels='gray')}"
        )
    if "value_range" not in merged and any(not 0.0 <= value <= 1.0 for value in merged["mean"]):
        raise UsageError(
            f"the mean {_text(merged['mean'])} of {who} lies outside 0..1, and nobody states its value range",
            f"add {stating(value_range=(0, 255))} if the model takes values from 0 to 255",
        )
    if "alpha" in merged and merged.get("channels", "rgb") != "rgba":
        raise UsageError(
            f"{who} has no fourth channel for an alpha", f"add {stating(channels='rgba')}, or leave `alpha=` out"
        )


def _as_usual(keys: Sequence[str]) -> str:
    """How these fields are stated with the values that most models have."""
    return stating(**{key: FIELDS[key].examples[0] for key in keys})


def _depends(what: str, value: tuple[float, ...] | None, on: str) -> bool:
    """Whether the numbers mean something else once the channels or the value range change."""
    if value is None:
        return False
    if on == "channels":
        return len(set(value)) > 1
    return any(number != (0.0 if what == "mean" else 1.0) for number in value)


def _and(keys: list[str]) -> str:
    words = [key.replace("_", " ") for key in keys]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sides(sides: Sequence[int]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def stated_by(module: nn.Module) -> Preprocessing | Mapping[str, Any] | None:
    """The preprocessing that a module carries in one of its `PREPROCESSING_ATTRIBUTES`, or None.

    The attribute is a `Preprocessing`, or a mapping with some of its fields. An attribute `preprocessing` that is
    neither belongs to the model itself (a submodule, a method) and is passed over.

    Raises:
        UsageError: the attribute has unknown fields, or `modelspace_preprocessing` is something else.
    """
    known = {entry.name for entry in fields(PreprocessingFlags)}
    telling = known - {"resize", "crop", "interpolation", "layout", "alpha", "inputs"}  # words with many meanings
    for name in PREPROCESSING_ATTRIBUTES:
        value = getattr(module, name, None)
        if isinstance(value, Preprocessing):
            return value
        if isinstance(value, Mapping) and (name == PREPROCESSING_ATTRIBUTES[0] or telling & set(value)):
            PreprocessingFlags.from_dict(value)
            return value
        if value is not None and name == PREPROCESSING_ATTRIBUTES[0]:
            raise UsageError(
                f"{type(module).__name__}.{name} is a {type(value).__name__}, not a Preprocessing or a dict",
                f"the entries are {', '.join(sorted(known))}",
            )
    return None


def describe(
    module: nn.Module,
    *,
    uri: str,
    name: str,
    flags: PreprocessingFlags,
    stated: Preprocessing | Mapping[str, Any] | None = None,
    architecture: str | None = None,
    layer: str | None = None,
    task: str | None = None,
    data: str | None = None,
    tags: Mapping[str, str] | None = None,
    code: str | Iterable[ModuleType] = (),
) -> LoadedModel:
    """Put together what is known about a module. What the source leaves out is looked for on the module itself.

    Args:
        module: the model; not changed.
        uri: its address.
        name: made a valid name where it isn't one.
        flags: what the user adds to the preprocessing.
        stated: the source's preprocessing; None: the module's own (`stated_by`). Further inputs that it doesn't name are
            the module's attribute `modelspace_inputs`.
        architecture: None: the name of the module's class.
        layer: None: the module's attribute `modelspace_layer`; `task` and `data` likewise.
        task: what it was trained to do.
        data: what it was trained on.
        tags: anything else.
        code: fingerprint of what is computed, where the source knows it; else Python modules that belong to the
            model besides those of its classes.

    Raises:
        UsageError: not a torch module, or preprocessing that nobody states.
        ModelspaceError: weights without values.
    """
    from torch import nn

    if not isinstance(module, nn.Module):
        raise UsageError(
            f"a {type(module).__name__} is not a torch module", "hand over an instance of a subclass of torch.nn.Module"
        )
    said = flags_of(stated if stated is not None else stated_by(module)).stated()
    if getattr(module, INPUTS_ATTRIBUTE, None) is not None and "inputs" not in said:
        said["inputs"] = extra_inputs(getattr(module, INPUTS_ATTRIBUTE))
    texts = {"layer": layer, "task": task, "data": data}
    for key, attribute in TEXT_ATTRIBUTES.items():
        own = getattr(module, attribute, None)
        if texts[key] is None and isinstance(own, str) and own:
            texts[key] = own
    return LoadedModel(
        module=module,
        preprocessing=merge_preprocessing(said, flags, uri),
        uri=uri,
        suggested_name=to_name(name) or to_name(type(module).__name__) or "model",
        weights_sha256=weights_sha256(module),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        architecture=architecture or type(module).__name__,
        code_sha256=code if isinstance(code, str) else code_sha256(module, code),
        tags=dict(tags or {}),
        **texts,
    )


def weights_sha256(module: nn.Module) -> str:
    """Fingerprint of a module's weights: 64 hexadecimal digits.

    SHA-256 over the entries of the state dict in the order of their names. Each entry gives a line of JSON with its
    name, type and shape, and then its values in row-major order as little-endian bytes. Device, memory layout, sharing
    of memory and training mode play no part.

    Raises:
        ModelspaceError: an entry has no values (on the meta device, or not initialised), or is no tensor.
    """
    import torch

    digest = hashlib.sha256()
    with torch.no_grad():
        for name, value in sorted(module.state_dict().items()):
            for key, tensor in _tensors(name, value):
                header = {"name": key, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
                digest.update(canonical_json(header).encode() + b"\n")
                digest.update(_little_endian(tensor))
    return digest.hexdigest()


def _tensors(name: str, value: object) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that make up one entry of a state dict, most often one."""
    import torch

    if not isinstance(value, torch.Tensor):
        # Entries named "..._extra_state" may hold anything. Text and numbers have one spelling, other objects none.
        try:
            text = canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ModelspaceError(
                f"the weights can't be fingerprinted: {name} is a {type(value).__name__}, not a tensor",
                "take it out of the module's state_dict()",
            ) from error
        yield name, torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        return
    if torch.nn.parameter.is_lazy(value):
        raise ModelspaceError(
            f"the weight {name} is not initialised yet: the module has lazy layers",
            "run the module once on an example before it is handed over",
        )
    if value.device.type == "meta":
        raise ModelspaceError(
            f"the weight {name} has no values: it is on the meta device",
            "build the module on the CPU, or load its weights before it is handed over",
        )
    value = value.detach()
    if value.is_quantized:
        yield name, value.int_repr()
        per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)
        scale = value.q_per_channel_scales() if per_channel else torch.tensor(value.q_scale(), dtype=torch.float64)
        zero = value.q_per_channel_zero_points() if per_channel else torch.tensor(value.q_zero_point())
        yield f"{name}#scale", scale
        yield f"{name}#zero_point", zero
        return
    yield name, value.to_dense() if value.layout != torch.strided else value


def _little_endian(tensor: torch.Tensor, byteorder: str = sys.byteorder) -> memoryview | bytes:
    """The values of one tensor as bytes; `byteorder` is that of the machine."""
    import torch

    plain = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = plain.view(torch.uint8).numpy()
    if byteorder == "little":
        return raw.data
    width = plain.element_size() // (2 if plain.is_complex() else 1)
    return raw.reshape(-1, width)[:, ::-1].tobytes()
