"""What a tensor of any kind holds, as plain integers: to compare it bit for bit, to hash it, and to put it back.

A module may hold tensors that most operators of torch refuse: sparse, quantised, nested, of types without arithmetic,
without memory. Each is taken apart into dense tensors, whose bits are read as integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

#: An integer type of the same size, by bytes per element.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_COMPRESSED = {
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices),
}


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has values in memory: it is not on the meta device, uninitialised, fake, or freed."""
    if is_lazy(tensor) or isinstance(tensor, FakeTensor) or tensor.device.type == "meta":
        return False
    if (
        tensor.layout != torch.strided
        or tensor.is_nested
        or hasattr(tensor, "__tensor_flatten__")
        or not tensor.numel()
    ):
        return True
    last = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.untyped_storage().nbytes() >= (tensor.storage_offset() + last + 1) * tensor.element_size()


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that a tensor with values consists of; they share its memory where that is possible.

    Raises:
        NotImplementedError, RuntimeError: torch can't take this kind of tensor apart.
    """
    tensor = tensor.detach()
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in dense_parts(getattr(tensor, name))]
    if tensor.is_nested:
        return [part for each in tensor.unbind() for part in dense_parts(each)]
    if tensor.is_quantized:
        return [tensor.int_repr(), *quantisation(tensor)]
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in _COMPRESSED:
        return [*(indices(tensor) for indices in _COMPRESSED[tensor.layout]), tensor.values()]
    return [tensor.to_dense()]


def quantisation(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a quantised tensor, one each or one per channel."""
    if tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
        return tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return torch.tensor(tensor.q_scale(), dtype=torch.float64), torch.tensor(tensor.q_zero_point())


def integers(dense: Tensor) -> Tensor:
    """The bits of a dense tensor as integers of the same size; complex128 gets one more axis, of two.

    It shares the memory of the tensor, unless that is a conjugate or negative view.
    """
    dense = dense.detach()
    if dense.element_size() == 16:
        dense = torch.view_as_real(dense.resolve_conj())
    if dense.is_complex():
        dense = dense.resolve_conj()
    return dense.resolve_neg().view(_INTEGERS[dense.element_size()])


def _unexpanded(dense: Tensor) -> Tensor:
    """The tensor with one element for all that share one place in memory because an axis was expanded."""
    for axis, (side, stride) in enumerate(zip(dense.shape, dense.stride(), strict=True)):
        if side > 1 and stride == 0:
            dense = dense.narrow(axis, 0, 1)
    return dense


@dataclass(frozen=True)
class Contents:
    """What a tensor held at one moment.

    Attributes:
        kind: type, layout, device, sides, and strides of a dense one.
        alias: the memory, sides and strides of a dense tensor at that moment.
        copy: a copy of a tensor that is sparse, quantised or of another kind that is not dense.
        parts: copies of its bits; none of a tensor without values.
    """

    kind: tuple[Any, ...]
    alias: Tensor | None = None
    copy: Tensor | None = field(default=None, repr=False)
    parts: tuple[Tensor, ...] = field(default=(), repr=False)

    def is_same(self, tensor: Tensor) -> bool:
        """Whether a tensor holds the same, bit for bit; strides play no part."""
        if _kind(tensor) != self.kind:
            return False
        if not has_values(tensor):
            return not self.parts
        now = _bits(tensor)
        return len(now) == len(self.parts) and all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(now, self.parts, strict=True)
        )

    def is_unmoved(self, tensor: Tensor) -> bool:
        """Whether the tensor that this was taken of holds the same, in the same memory."""
        is_placed = self.alias is None or _place(tensor) == _place(self.alias)
        return is_placed and self.is_same(tensor)

    def restore(self, tensor: Tensor) -> None:
        """Put back what the tensor that this was taken of held, also where its sides or its memory were exchanged.

        Raises:
            NotImplementedError, RuntimeError: torch can't write into this kind of tensor.
        """
        if self.alias is not None and _place(tensor) != _place(self.alias):
            tensor.data = self.alias
        if self.is_same(tensor):
            return
        if self.copy is not None:
            tensor.copy_(self.copy)
        else:
            self._restore_dense(tensor)
        if not self.is_same(tensor):
            raise RuntimeError("the tensor can't be written into")

    def _restore_dense(self, tensor: Tensor) -> None:
        for dense, before in zip(dense_parts(tensor), self.parts, strict=True):
            part = _unexpanded(dense)
            if part.is_conj() or part.is_neg():
                # Its bits are not those in memory.
                part.copy_(before.view(part.dtype))
            else:
                integers(part).copy_(before)


def checksums(tensor: Tensor) -> tuple[int, ...]:
    """The sum of the bits of each dense part, read as integers.

    Raises:
        NotImplementedError, RuntimeError: torch can't take this kind of tensor apart.
    """
    if not has_values(tensor):
        return ()
    sums = []
    for part in _bits(tensor):
        # Wider integers are added faster.
        wide = part.is_contiguous() and part.numel() * part.element_size() % 8 == 0 and part.storage_offset() == 0
        sums.append(int((part.reshape(-1).view(torch.int64) if wide else part).sum(dtype=torch.int64)))
    return tuple(sums)


def contents(tensor: Tensor) -> Contents:
    """A copy of what a tensor holds.

    Raises:
        NotImplementedError, RuntimeError: torch can't take this kind of tensor apart.
    """
    if not has_values(tensor):
        return Contents(_kind(tensor))
    parts = tuple(part.clone() for part in _bits(tensor))
    if type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not _is_packed(tensor):
        return Contents(_kind(tensor), tensor.detach(), None, parts)
    return Contents(_kind(tensor), None, tensor.detach().clone() if _is_packed(tensor) else None, parts)


def _is_packed(tensor: Tensor) -> bool:
    """Whether the parts of a tensor may not share its memory, so that it is put back as a whole."""
    return tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized


def _bits(tensor: Tensor) -> list[Tensor]:
    return [integers(_unexpanded(part)) for part in dense_parts(tensor)]


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    shape = () if is_lazy(tensor) or tensor.is_nested else tuple(tensor.shape)
    return type(tensor), tensor.dtype, tensor.layout, tensor.device, shape, has_values(tensor)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.untyped_storage()._cdata
