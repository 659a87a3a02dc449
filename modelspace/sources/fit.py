"""Whether a state dict fits a module: names, shapes and types, as torch would load them, before a byte is copied.

A module's own hooks may rename what they get (weight norm's old names, older versions of a layer). They are run by
torch's own `load_state_dict`, in which every copy is caught, noted and left undone; only then are names compared.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

State = dict[str, Any]

#: Old names that are translated by a model's builder and not by a module's hook: torchvision's DenseNet.
OLD_NAMES = ((re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$"), r"\1\2"),)

#: torch's message for a tensor of another shape.
_SIZE_MISMATCH = re.compile(r"size mismatch for (\S+): copying a param with shape .*?\[([\d, ]*)\].*?\[([\d, ]*)\]")


@dataclass
class Fit:
    """How a state dict fits a module.

    Attributes:
        missing: names that the module needs and the state dict lacks.
        strangers: names that the module does not have.
        shapes: name -> (shape in the file, shape in the module), where they differ.
        copies: (name, tensor of the module, tensor of the file) that would be copied.
        error: what the module's own code raised.
        old: whether it fits only as a state dict of an older version of its layers.
    """

    missing: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[str, str]] = field(default_factory=dict)
    copies: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    error: Exception | None = None
    old: bool = False

    @property
    def names_fit(self) -> bool:
        """Whether the file and the module have the same names, and the module's hooks raised no error."""
        return not self.missing and not self.strangers and self.error is None


def fit(state: State, module: nn.Module) -> tuple[Fit, State]:
    """How a state dict fits, and the state dict with the names and the versions of the layers under which it fits best.

    A file without versions is taken for a current one and, if it doesn't fit, for one of the oldest version.
    """
    if hasattr(state, "_metadata"):
        attempts = [state, _renamed(state)]
    else:
        versions = cast(Any, module.state_dict())._metadata
        attempts = [_versioned(state, versions), _versioned(state, None), _versioned(_renamed(state), versions)]
    first = None
    for number, attempt in enumerate(attempts):
        result = _fit(attempt, module)
        if result.names_fit:
            result.old = number > 0
            return result, attempt
        first = first or result
    assert first is not None
    return first, attempts[0]


def _versioned(state: State, versions: Any) -> State:
    versioned: Any = OrderedDict(state)
    if versions is not None:
        versioned._metadata = versions
    return cast("State", versioned)


def _renamed(state: State) -> State:
    """The state dict with `OLD_NAMES` translated."""
    renamed: Any = OrderedDict()
    for name, value in state.items():
        for pattern, replacement in OLD_NAMES:
            name = pattern.sub(replacement, name)
        renamed[name] = value
    if hasattr(state, "_metadata"):
        renamed._metadata = cast(Any, state)._metadata
    return cast("State", renamed)


def _fit(state: State, module: nn.Module) -> Fit:
    own = module.state_dict()
    result = Fit()
    if any(is_lazy(tensor) for tensor in own.values()):
        # The hook of a lazy layer allocates memory, which can't be undone.
        result.missing = [name for name in own if name not in state]
        result.strangers = [name for name in state if name not in own]
        result.copies = [
            (n, t, state[n]) for n, t in own.items() if isinstance(state.get(n), Tensor) and not is_lazy(t)
        ]
    else:
        _rehearse(state, module, result)
        if result.error is not None:
            # The module's own code raised an error; the names may show why.
            result.missing = [name for name in own if name not in state]
            result.strangers = [name for name in state if name not in own]
    result.missing = _needed(result.missing, own)
    return result


def _rehearse(state: State, module: nn.Module, result: Fit) -> None:
    """Have torch load the state dict without copying anything."""
    names = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]

    def listen(_: nn.Module, incompatible: Any) -> None:
        result.missing, result.strangers = list(incompatible.missing_keys), list(incompatible.unexpected_keys)

    handle = module.register_load_state_dict_post_hook(listen)  # type: ignore[no-untyped-call]  # torch's has no types
    rehearsal = _Rehearsal(names)
    try:
        with rehearsal, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about copies that are not made here.
            module.load_state_dict(state, strict=False)
    except Exception as error:
        result.shapes = {name: (_shape(file), _shape(module)) for name, file, module in _mismatches(error)}
        if not result.shapes:
            result.error = error
    finally:
        handle.remove()
    result.copies = rehearsal.copies


class _Rehearsal(TorchFunctionMode):
    """Records what would be copied into the tensors of a module, and copies nothing."""

    def __init__(self, names: list[tuple[str, Tensor]]) -> None:
        super().__init__()
        self._names = {_place(tensor): name for name, tensor in reversed(names)}
        self.copies: list[tuple[str, Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.copy_ and len(args) > 1 and isinstance(args[1], Tensor):
            name = self._names.get(_place(args[0]))
            if name is not None:
                self.copies.append((name, args[0], args[1]))
                return args[0]
        return func(*args, **(kwargs or {}))


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that share memory; for tensors without memory, only for the same one."""
    if tensor.layout == torch.strided and tensor.device.type != "meta" and tensor.numel():
        return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape)
    return (id(tensor),)


def _mismatches(error: Exception) -> Iterator[tuple[str, str, str]]:
    yield from _SIZE_MISMATCH.findall(str(error))


def _shape(sides: str) -> str:
    return "x".join(side.strip() for side in sides.split(",") if side.strip()) or "a single number"


def _needed(missing: list[str], own: Mapping[str, Any]) -> list[str]:
    """The missing names without those that exist under another name, and without batch norm's counters.

    A tensor that two names share may be stored under one of them; the counters came with torch 0.4.1.
    """
    absent = set(missing)
    present = {_memory(value) for name, value in own.items() if name not in absent}
    return [
        name
        for name in missing
        if not name.endswith("num_batches_tracked")
        and (name not in own or _memory(own[name]) is None or _memory(own[name]) not in present)
    ]


def _memory(value: Any) -> tuple[Any, ...] | None:
    """Equal for two tensors that share the same elements; None if that can't be determined."""
    if not isinstance(value, Tensor) or is_lazy(value) or value.layout != torch.strided or not value.numel():
        return None
    return (value.device, value.data_ptr(), value.shape, value.stride()) if value.data_ptr() else None


# --- types


def lossy(target: Tensor, value: Tensor) -> str:
    """Why a value of a file can't be taken as a weight of the module's type; "": it can.

    Floating-point values are converted to the module's floating-point type as long as none becomes infinite. Other
    values are accepted only if none changes. Integers are never converted to floating-point weights: they are quantised
    weights without their scale.
    """
    kinds = f"{_type(value)} in the file and {_type(target)} in the module"
    if value.layout != target.layout:
        return f"{_layout(value)} in the file and {_layout(target)} in the module"
    if value.dtype == target.dtype:
        return ""
    if value.is_quantized or target.is_quantized:
        return f"{kinds}: quantised values are not converted"
    if value.is_complex() or target.is_complex():
        widened = value.is_complex() and target.is_complex() and _keeps(value, target.dtype)
        return "" if widened else f"{kinds}: complex numbers are not converted"
    if target.is_floating_point() and not value.is_floating_point():
        return f"{kinds}: integers are no weights without their scale"
    if target.is_floating_point():
        return "" if _stays_finite(value, target.dtype) else f"{kinds}: some values would be infinite"
    return "" if _keeps(value, target.dtype) else f"{kinds}: some values would change"


def _keeps(value: Tensor, dtype: torch.dtype) -> bool:
    """Whether a conversion changes no value."""
    converted = value.to(dtype)
    back = converted.to(value.dtype)
    same = (back == value) | (back.isnan() & value.isnan()) if value.is_floating_point() else back == value
    if not value.is_complex():
        # -1 becomes 255 in a type without signs, and -1 again on the way back.
        same &= _negative(converted) == _negative(value)
    return bool(same.all())


def _negative(value: Tensor) -> Tensor:
    return value < 0 if value.dtype.is_signed else torch.zeros_like(value, dtype=torch.bool)


def _stays_finite(value: Tensor, dtype: torch.dtype) -> bool:
    if torch.finfo(dtype).max >= torch.finfo(value.dtype).max:
        return True
    largest = value.double().abs() if value.numel() else value.new_zeros(1, dtype=torch.float64)
    largest = largest[largest.isfinite()]
    return not largest.numel() or bool(torch.isfinite(largest.max().to(dtype).double()))


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _layout(tensor: Tensor) -> str:
    return "dense" if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.").replace("_", " ")


@contextmanager
def writable(module: nn.Module) -> Iterator[None]:
    """Allow writing into tensors that were created in inference mode, if the module has any."""
    inference = any(
        tensor.is_inference() for tensor in (*module.parameters(), *module.buffers()) if not is_lazy(tensor)
    )
    with torch.inference_mode(inference):
        yield
