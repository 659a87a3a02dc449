"""Freezing a module: eval mode, no parameter gradients, and everything restored afterwards, bit for bit."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.attribution.tensors import Contents, checksums, contents
from modelspace.errors import EmbeddingError

_FROZEN: weakref.WeakSet[nn.Module] = weakref.WeakSet()

#: Parameters of more bytes are not copied: memory for the model twice may be missing.
COPIED = 2**31

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
    """Whether `module`, or a module that it is part of, is in a `frozen` block."""
    return module in _FROZEN


@contextmanager
def frozen(module: nn.Module, *, copied: bool = False) -> Iterator[nn.Module]:
    """Put `module` into eval mode with requires_grad off, and restore it at the end, even after an error.

    Restored: train/eval flags of every submodule, requires_grad and .grad of parameters, contents of buffers and of
    tensors held as plain attributes, attributes that the forward pass set, and hooks. A block inside another block of
    the same module, or of a module that contains it, does nothing.

    Args:
        module: the module.
        copied: copy the parameters too, up to `COPIED` bytes, so that what a forward pass writes into them is restored.

    Raises:
        EmbeddingError: the block wrote into a parameter, also past autograd (`parameter.data`).
    """
    if module in _FROZEN:
        yield module
        return
    states = [_Module(name, part) for name, part in module.named_modules()]
    named = list(module.named_parameters())
    copied = copied and sum(parameter.numel() * parameter.element_size() for _, parameter in named) <= COPIED
    parameters = [_Parameter(name, parameter, copied) for name, parameter in named]
    parts = list(module.modules())
    _FROZEN.update(parts)
    try:
        with suppress(NotImplementedError):  # an exported program has no modes
            module.eval()
        for parameter in parameters:
            parameter.tensor.requires_grad_(False)
        copies: dict[int, Tensor] = {}
        for state in states:
            state.exchange_inference_tensors(copies)
        yield module
    finally:
        _FROZEN.difference_update(parts)
        for state in states:
            state.restore()
        for parameter in parameters:
            parameter.restore()
    if overwritten := [parameter for parameter in parameters if parameter.written]:
        raise EmbeddingError(
            f"the model overwrites its own parameter {overwritten[0].name} in the forward pass",
            "its weights were put back; a model whose weights change has no maps of its own"
            if all(parameter.restored for parameter in overwritten)
            else "reload it: its weights are no longer those of the file",
        )
    if lost := [name for state in states for name in state.lost]:
        raise EmbeddingError(
            f"the model overwrites {lost[0]} in the forward pass, which can't be put back",
            "reload it: its weights are no longer those of the file",
        )


class _Parameter:
    """requires_grad, .grad and values of one parameter.

    `written` is known after `restore`: whether the values were changed. `restored`: whether they were put back.
    """

    def __init__(self, name: str, tensor: Tensor, copied: bool) -> None:
        self.name = name
        self.tensor = tensor
        self.written = self.restored = False
        self._requires_grad = tensor.requires_grad
        self._grad = tensor.grad
        self._version = _version(tensor)
        self._copy = _contents(tensor) if copied else None
        # Writes into `tensor.data` are not counted as a version.
        self._checksum = None if self._copy else _checksum(tensor)

    def restore(self) -> None:
        is_new_version = _version(self.tensor) != self._version
        if self._copy is not None:
            self.written = is_new_version or not self._copy.is_unmoved(self.tensor)
            self.restored = _is_restored(self.tensor, self._copy)
        else:
            self.written = is_new_version or _checksum(self.tensor) != self._checksum
        _set_requires_grad(self.tensor, self._requires_grad)
        if self.tensor.grad is not self._grad:
            self.tensor.grad = self._grad


class _Module:
    """One submodule without its children: attributes, tables, mode, and the contents of its non-parameter tensors."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self._module = module
        self.lost: list[str] = []
        # torch.jit.freeze removes the mode.
        self._training = getattr(module, "training", None)
        # A scripted module stores its attributes in C++; only its mode and buffers can change.
        self._scripted = isinstance(module, torch.jit.ScriptModule)
        self._attributes = {} if self._scripted else dict(module.__dict__)
        self._tables = {name: dict(self._attributes[name]) for name in _TABLES if name in self._attributes}
        tensors = dict(module.named_buffers(recurse=False))
        tensors |= {key: value for key, value in self._attributes.items() if isinstance(value, Tensor)}
        prefix = f"{name}." if name else ""
        with torch.inference_mode(False), torch.no_grad():
            self._contents = [
                (prefix + key, tensor, _contents(tensor), tensor.requires_grad) for key, tensor in tensors.items()
            ]

    def exchange_inference_tensors(self, copies: dict[int, Tensor]) -> None:
        """Replace tensors made in inference mode, which autograd refuses, by copies until `restore`."""
        if self._scripted:
            return
        state = self._module.__dict__
        tables: list[dict[str, Any]] = [state, state["_parameters"], state["_buffers"]]
        for table in tables:
            for name, tensor in list(table.items()):
                if isinstance(tensor, Tensor) and tensor.is_inference():
                    table[name] = copies.setdefault(id(tensor), _plain(tensor))

    def restore(self) -> None:
        if self._scripted:
            if self._training is None:
                self._module.__dict__.pop("training", None)
            else:
                self._module.training = self._training
        else:
            self._restore_attributes()
        for name, tensor, before, requires_grad in self._contents:
            if before is not None and not _is_restored(tensor, before):
                self.lost.append(name)
            if tensor.is_leaf and tensor.requires_grad != requires_grad:
                _set_requires_grad(tensor, requires_grad)

    def _restore_attributes(self) -> None:
        attributes = self._module.__dict__
        for name in [name for name in attributes if name not in self._attributes]:
            del attributes[name]
        attributes.update(self._attributes)
        for name, before in self._tables.items():
            table: dict[Any, Any] = attributes[name]
            unchanged = list(table) == list(before) and all(table[key] is value for key, value in before.items())
            if not unchanged:
                table.clear()
                table.update(before)


def _version(tensor: Tensor) -> int:
    """The number of writes into a tensor, as torch counts them; it does not for tensors made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def _set_requires_grad(tensor: Tensor, value: bool) -> None:
    if tensor.requires_grad != value:
        # A tensor that was created in inference mode can be set to need a gradient only in that mode.
        with torch.inference_mode(tensor.is_inference()):
            tensor.requires_grad_(value)


def _plain(tensor: Tensor) -> Tensor:
    """A copy, outside inference mode, of a tensor made in it."""
    with torch.inference_mode(False), torch.no_grad():
        copy = tensor.clone()
    return nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy


def _checksum(tensor: Tensor) -> tuple[int, ...] | None:
    """A number for each part of what a tensor holds, that a write into it changes; None for a kind torch can't read."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            return checksums(tensor)
    except (NotImplementedError, RuntimeError, AttributeError):
        return None


def _contents(tensor: Tensor) -> Contents | None:
    """What a tensor holds; None for a kind that torch can't read, which a forward pass can't write into either."""
    try:
        return contents(tensor)
    except (NotImplementedError, RuntimeError, AttributeError):
        return None


def _is_restored(tensor: Tensor, before: Contents) -> bool:
    """Put back what a tensor held; False where torch can't write into a tensor of its kind."""
    if before.is_unmoved(tensor):
        return True
    try:
        # Only code that runs in inference mode may write into a tensor made there.
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            before.restore(tensor)
    except (NotImplementedError, RuntimeError):
        return False
    return True
