"""A module held still: eval mode, no parameter gradients, and everything put back afterwards, bit for bit."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.errors import EmbeddingError

_FROZEN: weakref.WeakSet[nn.Module] = weakref.WeakSet()

#: Dictionaries of a module that are restored entry by entry, since other objects hold the dictionary itself.
_TABLES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def is_frozen(module: nn.Module) -> bool:
    """Whether a `frozen` block of `module`, or of a module that it is part of, is open."""
    return module in _FROZEN


@contextmanager
def frozen(module: nn.Module) -> Iterator[nn.Module]:
    """Hold `module` in eval mode with requires_grad off, and restore it at the end, also after an error.

    Restored: train/eval flags of every submodule, requires_grad and .grad of parameters, contents of buffers and of
    tensors kept as plain attributes, attributes that the forward pass set, and hooks. A block inside another block of
    the same module, or of one that it is part of, does nothing.

    Raises:
        EmbeddingError: the block wrote into a parameter. Parameters are not copied, so that one can't be put back.
    """
    if module in _FROZEN:
        yield module
        return
    kept = [_Module(part) for part in module.modules()]
    parameters = [_Parameter(name, parameter) for name, parameter in module.named_parameters()]
    parts = list(module.modules())
    _FROZEN.update(parts)
    try:
        with suppress(NotImplementedError):  # an exported program has no modes
            module.eval()
        for parameter in parameters:
            parameter.tensor.requires_grad_(False)
        yield module
    finally:
        _FROZEN.difference_update(parts)
        for part in kept:
            part.restore()
        for parameter in parameters:
            parameter.restore()
    if written := [parameter.name for parameter in parameters if parameter.written()]:
        raise EmbeddingError(
            f"the model overwrites its own parameter {written[0]} in the forward pass",
            "load it anew: its weights are no longer those of the file",
        )


class _Parameter:
    """requires_grad and .grad of one parameter."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.tensor = tensor
        self._requires_grad = tensor.requires_grad
        self._grad = tensor.grad
        self._version = _version(tensor)

    def restore(self) -> None:
        self.tensor.requires_grad_(self._requires_grad)
        if self.tensor.grad is not self._grad:
            self.tensor.grad = self._grad

    def written(self) -> bool:
        return _version(self.tensor) != self._version


class _Module:
    """One submodule without its children: attributes, tables, mode, and the contents of its non-parameter tensors."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training = module.training
        # a scripted module keeps its attributes in C++; only its mode and buffers can change
        self._scripted = isinstance(module, torch.jit.ScriptModule)
        self._attributes = {} if self._scripted else dict(module.__dict__)
        self._tables = {name: dict(self._attributes[name]) for name in _TABLES if name in self._attributes}
        tensors = list(module.buffers(recurse=False))
        tensors += [value for value in self._attributes.values() if isinstance(value, Tensor)]
        with torch.inference_mode(False), torch.no_grad():
            self._contents = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors]

    def restore(self) -> None:
        if self._scripted:
            self._module.training = self._training
        else:
            self._restore_attributes()
        for tensor, before, requires_grad in self._contents:
            if not _same_bits(tensor, before):
                # only code that runs in inference mode may write into a tensor made there
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.detach().copy_(before)
            if tensor.is_leaf and tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)

    def _restore_attributes(self) -> None:
        now = self._module.__dict__
        for name in [name for name in now if name not in self._attributes]:
            del now[name]
        now.update(self._attributes)
        for name, before in self._tables.items():
            table: dict[Any, Any] = now[name]
            same = list(table) == list(before) and all(table[key] is value for key, value in before.items())
            if not same:
                table.clear()
                table.update(before)


def _version(tensor: Tensor) -> int:
    """torch's count of writes into a tensor; tensors made in inference mode have none and can't be counted."""
    return 0 if tensor.is_inference() else tensor._version


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    if a.layout != torch.strided or a.is_quantized:
        return bool(torch.equal(a, b))
    with torch.no_grad():
        return bool(torch.equal(_bytes(a), _bytes(b)))


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.detach().contiguous().reshape(-1)
    # of one number or none, expanded, the stride stays 0, and so it can't be viewed as bytes
    return (flat if flat.stride() == (1,) else flat.clone(memory_format=torch.contiguous_format)).view(torch.uint8)
