"""What every source returns, and the rules that all sources share.

A source is one module of this package with one function::

    def load(name: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel

`name` is the address without its scheme. The function loads the module, collects its metadata, and ends with
`describe`, which resolves the preprocessing and fingerprints the weights. Optional packages are imported at the top of
the file: if one is missing, the error says how to install it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modelspace.deprecated import renamed, renamed_argument
from modelspace.errors import ModelspaceError, UsageError
from modelspace.late import dataclass
from modelspace.names import to_name
from modelspace.sources.code import code_sha256
from modelspace.sources.fields import FIELDS, preprocessing_hint
from modelspace.types import ExtraInput, Preprocessing, canonical_json, extra_inputs

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Scheme of the addresses of modules passed from Python. They can't be loaded.
LIVE_SCHEME = "live"

#: Attributes in which a module can describe itself. Each is optional.
PREPROCESSING_ATTRIBUTES = ("modelspace_preprocessing", "preprocessing")
INPUTS_ATTRIBUTE = "modelspace_inputs"
TEXT_ATTRIBUTES = {"layer": "modelspace_layer", "task": "modelspace_task", "data": "modelspace_data"}

#: Fields that have no default.
_REQUIRED = ("input_size", "mean", "std")


@dataclass(frozen=True)
class SourceInfo:
    """One row of `modelspace.sources.SOURCES`.

    Attributes:
        scheme: the part of an address before the first colon.
        module: the Python module that loads such addresses.
        summary: what the source offers, for help texts.
        example: an address.
        extra: the package extra that installs its dependencies, for example "timm"; empty: no extra is needed.
        runs_code: whether its files can contain code. Its `load` takes a fourth argument, `trusted`: the SHA-256 of the
            file that the user trusts, or None.
    """

    scheme: str
    module: str
    summary: str
    example: str
    extra: str = ""
    runs_code: bool = False


class WeightsFile(str):
    """The path of a weights file, of an index of such files or of its folder, with the user's further options.

    Attributes:
        key: which state dict in it is meant, as `weights_key=` takes it; None: it is found.
        given: how the user wrote the path; kept in the tags.
    """

    key: str | None
    given: str

    def __new__(cls, path: str, key: str | None = None, given: str = "") -> WeightsFile:
        """A path with the key of the state dict in it."""
        file = super().__new__(cls, path)
        file.key, file.given = key, given or path
        return file


@dataclass
class LoadedModel:
    """A torch module and its metadata.

    Attributes:
        module: the model, in the mode (train or eval) that its source left it in. On the CPU, unless it was passed from
            Python on another device.
        preprocessing: how a probe image becomes its input.
        uri: its address. A file path in it is kept as the user wrote it; a relative one is resolved against the current
            folder.
        suggested_name: a valid name for the registry.
        weights_sha256: see `weights_sha256`.
        parameters: number of parameters; shared ones count once.
        architecture: for example the name of the module's class.
        layer: the layer to tap that the source or the module recommends; None: it is searched for.
        task: what the model was trained to do.
        data: what it was trained on.
        code_sha256: see `modelspace.sources.code`; of a file that holds the computation itself, the file's hash.
        tags: anything else. "weights" is the path of the weights file as the user wrote it, and "weights_key" the state
            dict of it that was taken, so that
            ``load(uri, weights=tags.get("weights"), weights_key=tags.get("weights_key"))`` loads the same model again.
        notes: remarks for the user, such as which of the state dicts in a checkpoint was taken.
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
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreprocessingFlags:
    """Some fields of `modelspace.types.Preprocessing`; None: not set.

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
        """Parse one text per field, written as on the command line.

        Args:
            **texts: by the names of `modelspace.sources.fields.FIELDS`: "224" or "192x256" (height x width) for
                `input_size` and `resize`; comma-separated numbers for `mean`, `std` and `value_range`; a word or a
                number for the others. None: not set.

        Raises:
            UsageError: a text that can't be parsed; names the field.
            TypeError: an unknown field.
        """
        if unknown := sorted(set(texts) - set(FIELDS)):
            raise TypeError(f"parse() got an unexpected keyword argument {unknown[0]!r}")
        return cls(**{name: FIELDS[name].read(text) for name, text in texts.items() if text is not None})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PreprocessingFlags:
        """Convert a mapping with some of the fields. `input_size` may be a single side.

        Raises:
            UsageError: an unknown field, or a value of the wrong form.
        """
        names = [entry.name for entry in fields(cls)]
        if unknown := sorted(set(map(str, value)) - set(names)):
            raise UsageError(
                f"preprocessing has unknown entries: {', '.join(unknown)}", f"the entries are {', '.join(names)}"
            )
        values = {key: entry for key, entry in value.items() if entry is not None}
        try:
            values = {
                key: extra_inputs(entry) if key == "inputs" else FIELDS[key].form.convert(entry)
                for key, entry in values.items()
            }
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"preprocessing can't be read: {error}", "use numbers, or lists of numbers") from error
        return cls(**values)

    def stated(self) -> dict[str, Any]:
        """The fields that are set."""
        return {entry.name: v for entry in fields(self) if (v := getattr(self, entry.name)) is not None}


def flags_of(value: PreprocessingFlags | Preprocessing | Mapping[str, Any] | None) -> PreprocessingFlags:
    """The fields that a value sets: all for a `Preprocessing`, some for a mapping, none for None.

    Raises:
        UsageError: a mapping with unknown fields, or values of the wrong form.
    """
    if isinstance(value, PreprocessingFlags):
        return value
    return PreprocessingFlags.from_dict(value.to_dict() if isinstance(value, Preprocessing) else value or {})


@renamed_argument("who", "model")
@renamed_argument("stated", "defaults")
def merge_preprocessing(
    defaults: Preprocessing | Mapping[str, Any] | None, flags: PreprocessingFlags, model: str = "the model"
) -> Preprocessing:
    """Resolve the preprocessing to use: each flag overrides the model's default, and nothing is guessed.

    1. A field is taken from the flags if set there, otherwise from `defaults`.
    2. `input_size`, `mean` and `std` must come from one of the two.
    3. `channels` and `value_range` determine what `mean` and `std` mean. If neither sets them, PyTorch's convention
       applies, "rgb" and 0..1, but only if `mean` and `std` are consistent with it: three values each, and a mean
       within the range.
    4. `resize`, `crop`, `interpolation`, `layout`, `alpha` and `inputs` have defaults: the image is resized directly to
       the input size. A flag that overrides the input size of a model with a `resize` needs a flag for `resize` too:
       otherwise the visible fraction of the image would change.
    5. A flag that overrides the model's `channels` or `value_range` needs flags for `mean` and `std` too, if the
       model's own depend on it: they would keep their values and change their meaning.

    Args:
        defaults: from the source or the module; a mapping may leave fields out.
        flags: what the user sets.
        model: the model, for error messages.

    Raises:
        UsageError: a required field is missing, or the fields contradict each other. The hint has the flags to add.
    """
    own_fields, user_fields = flags_of(defaults).stated(), flags.stated()
    values = {**own_fields, **user_fields}
    if missing := [key for key in _REQUIRED if key not in values]:
        raise UsageError(
            f"the {_join(missing)} of {model} {'is' if len(missing) == 1 else 'are'} not given",
            f"add the values it was trained with, for example {_example(missing)}",
        )
    _check_meaning(own_fields, user_fields, model)
    _check_resize(own_fields, user_fields, model)
    _check_convention(values, model)
    if "crop" in values and "resize" not in values:
        values["resize"] = values["input_size"]
    return Preprocessing(**values)


def _check_meaning(own_fields: Mapping[str, Any], user_fields: Mapping[str, Any], model: str) -> None:
    """Rule 5 of `merge_preprocessing`."""
    for key in ("channels", "value_range"):
        dependent = [
            name for name in ("mean", "std") if name not in user_fields and _depends_on(key, name, own_fields.get(name))
        ]
        if key in own_fields and key in user_fields and user_fields[key] != own_fields[key] and dependent:
            raise UsageError(
                f"`{key}=` changes the meaning of the {_join(dependent)} of {model}",
                f"add {_example(dependent)} in the new units",
            )


def _check_resize(own_fields: Mapping[str, Any], user_fields: Mapping[str, Any], model: str) -> None:
    """The second half of rule 4 of `merge_preprocessing`."""
    if "resize" not in own_fields or "input_size" not in own_fields or "resize" in user_fields:
        return
    old_size, resize = own_fields["input_size"], own_fields["resize"]
    new_size = user_fields.get("input_size", old_size)
    if new_size == old_size:
        return
    scaled = tuple(round(a * b / c) for a, b, c in zip(resize, new_size, old_size, strict=True))
    raise UsageError(
        f"{model} resizes images to {_sides(resize)} and crops them to {_sides(old_size)}, and `input_size=` changes "
        "only the crop",
        f"add {preprocessing_hint(resize=scaled)}, which keeps the visible fraction of the image",
    )


def _check_convention(values: Mapping[str, Any], model: str) -> None:
    """Rule 3 of `merge_preprocessing`; also that `alpha` is only set for four channels."""
    if "channels" not in values and len(values["mean"]) == len(values["std"]) == 1:
        raise UsageError(
            f"{model} has a single mean and std, but its channels are not given",
            f"add {preprocessing_hint(channels='gray')}",
        )
    if "value_range" not in values and any(not 0.0 <= value <= 1.0 for value in values["mean"]):
        raise UsageError(
            f"the mean {_text(values['mean'])} of {model} is outside 0..1, and its value range is not given",
            f"add {preprocessing_hint(value_range=(0, 255))} if the model takes values from 0 to 255",
        )
    if "alpha" in values and values.get("channels", "rgb") != "rgba":
        raise UsageError(
            f"{model} has no fourth channel for an alpha",
            f"add {preprocessing_hint(channels='rgba')}, or leave `alpha=` out",
        )


def _example(keys: Sequence[str]) -> str:
    """A hint that sets these fields to the most common values."""
    return preprocessing_hint(**{key: FIELDS[key].examples[0] for key in keys})


def _depends_on(key: str, name: str, value: tuple[float, ...] | None) -> bool:
    """Whether a mean or std changes its meaning with the channels or the value range."""
    if value is None:
        return False
    if key == "channels":
        return len(set(value)) > 1
    return any(number != (0.0 if name == "mean" else 1.0) for number in value)


def _join(keys: list[str]) -> str:
    words = [key.replace("_", " ") for key in keys]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sides(sides: Sequence[int]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def module_preprocessing(module: nn.Module) -> Preprocessing | Mapping[str, Any] | None:
    """The preprocessing in one of a module's `PREPROCESSING_ATTRIBUTES`, or None.

    The attribute is a `Preprocessing`, or a mapping with some of its fields. An attribute `preprocessing` that is
    neither belongs to the model itself (a submodule, a method) and is ignored.

    Raises:
        UsageError: the attribute has unknown fields, or `modelspace_preprocessing` has another type.
    """
    names = {entry.name for entry in fields(PreprocessingFlags)}
    # The others are common words, which a model may use for something else.
    specific = names - {"resize", "crop", "interpolation", "layout", "alpha", "inputs"}
    for name in PREPROCESSING_ATTRIBUTES:
        value = getattr(module, name, None)
        if isinstance(value, Preprocessing):
            return value
        if isinstance(value, Mapping) and (name == PREPROCESSING_ATTRIBUTES[0] or specific & set(value)):
            PreprocessingFlags.from_dict(value)
            return value
        if value is not None and name == PREPROCESSING_ATTRIBUTES[0]:
            raise UsageError(
                f"{type(module).__name__}.{name} is a {type(value).__name__}, not a Preprocessing or a dict",
                f"the entries are {', '.join(sorted(names))}",
            )
    return None


@renamed_argument("stated", "preprocessing")
def describe(
    module: nn.Module,
    *,
    uri: str,
    name: str,
    flags: PreprocessingFlags,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    architecture: str | None = None,
    layer: str | None = None,
    task: str | None = None,
    data: str | None = None,
    tags: Mapping[str, str] | None = None,
    code: str | Iterable[ModuleType] = (),
    notes: Iterable[str] = (),
) -> LoadedModel:
    """Collect a module's metadata. What the source leaves out is read from the module's attributes.

    Args:
        module: the model; not changed.
        uri: its address.
        name: turned into a valid name if it isn't one.
        flags: the user's preprocessing.
        preprocessing: the source's; None: the module's own (`module_preprocessing`). If it has no further inputs, they
            are the module's attribute `modelspace_inputs`.
        architecture: None: the name of the module's class.
        layer: None: the module's attribute `modelspace_layer`; `task` and `data` likewise.
        task: what it was trained to do.
        data: what it was trained on.
        tags: anything else.
        code: fingerprint of what is computed, where the source knows it; else Python modules that belong to the
            model besides those of its classes.
        notes: remarks for the user.

    Raises:
        UsageError: not a torch module, or incomplete preprocessing.
        ModelspaceError: weights without values.
    """
    from torch import nn

    if not isinstance(module, nn.Module):
        raise UsageError(
            f"a {type(module).__name__} is not a torch module", "pass an instance of a subclass of torch.nn.Module"
        )
    defaults = flags_of(preprocessing if preprocessing is not None else module_preprocessing(module)).stated()
    if getattr(module, INPUTS_ATTRIBUTE, None) is not None and "inputs" not in defaults:
        defaults["inputs"] = extra_inputs(getattr(module, INPUTS_ATTRIBUTE))
    texts = {"layer": layer, "task": task, "data": data}
    for key, attribute in TEXT_ATTRIBUTES.items():
        value = getattr(module, attribute, None)
        if texts[key] is None and isinstance(value, str) and value:
            texts[key] = value
    return LoadedModel(
        module=module,
        preprocessing=merge_preprocessing(defaults, flags, uri),
        uri=uri,
        suggested_name=to_name(name) or to_name(type(module).__name__) or "model",
        weights_sha256=weights_sha256(module),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        architecture=architecture or type(module).__name__,
        code_sha256=code if isinstance(code, str) else code_sha256(module, code),
        tags=dict(tags or {}),
        notes=tuple(notes),
        **texts,
    )


def weights_sha256(module: nn.Module) -> str:
    """Fingerprint of a module's weights: 64 hexadecimal digits.

    SHA-256 over the entries of the state dict, sorted by name. Each entry contributes a line of JSON with its name,
    type and shape, followed by its values in row-major order as little-endian bytes. Device, memory layout, shared
    memory and training mode don't matter.

    Raises:
        ModelspaceError: an entry has no values (on the meta device, or not initialised), or is not a tensor.
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
    """The plain tensors that make up one entry of a state dict, usually one."""
    import torch

    from modelspace.attribution.tensors import dense_parts, has_values, quantisation

    if not isinstance(value, torch.Tensor):
        # Entries named "..._extra_state" may hold anything. Only text and numbers have a canonical form.
        try:
            text = canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ModelspaceError(
                f"the weights can't be fingerprinted: {name} is a {type(value).__name__}, not a tensor",
                "remove it from the module's state_dict()",
            ) from error
        yield name, torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        return
    if torch.nn.parameter.is_lazy(value):
        raise ModelspaceError(
            f"the weight {name} is not initialised yet: the module has lazy layers",
            "run the module once on an example before passing it",
        )
    if not has_values(value):
        where = "it is on the meta device" if value.device.type == "meta" else "its memory was freed, or it is a fake"
        raise ModelspaceError(
            f"the weight {name} has no values: {where}",
            "build the module on the CPU, or load its weights before passing it",
        )
    value = value.detach()
    if value.is_quantized:
        yield name, value.int_repr()
        scale, zero_point = quantisation(value)
        yield f"{name}#scale", scale
        yield f"{name}#zero_point", zero_point
        return
    try:
        parts = dense_parts(value)
        if len(parts) > 1 and not value.is_nested and not hasattr(value, "__tensor_flatten__"):
            parts = [value.to_dense()]  # Two ways to write the same sparse matrix are the same weights.
    except (NotImplementedError, RuntimeError) as error:
        raise ModelspaceError(
            f"the weights can't be fingerprinted: {name} is a {type(value).__name__} of a kind that can't be read",
            "convert it to a dense tensor, or register it with persistent=False",
        ) from error
    for number, part in enumerate(parts):
        yield name if len(parts) == 1 else f"{name}#{number}", part


def _little_endian(tensor: torch.Tensor, byteorder: str = sys.byteorder) -> memoryview | bytes:
    """The values of one tensor as bytes; `byteorder` is that of the machine."""
    import numpy as np
    import torch

    from modelspace.attribution.tensors import integers

    # A copy: memory that NumPy has seen can't be resized any more, which some modules do in their forward pass.
    copy = integers(tensor.cpu()).clone(memory_format=torch.contiguous_format)
    raw = np.ascontiguousarray(copy.numpy()).reshape(-1).view(np.uint8)
    if byteorder == "little":
        return raw.data
    width = tensor.element_size() // (2 if tensor.is_complex() else 1)
    return raw.reshape(-1, width)[:, ::-1].tobytes()


__getattr__ = renamed(__name__, {"stated_by": "module_preprocessing"})
