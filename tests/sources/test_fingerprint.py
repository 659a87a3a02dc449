"""The fingerprint of a module's weights."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.sources import weights_sha256
from modelspace.sources.base import _little_endian


class Holder(nn.Module):
    """A module whose state dict is exactly the given tensors."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def by_definition(arrays):
    """The documented bytes, computed with NumPy only. arrays: name -> (name of the type, array)."""
    stream = b""
    for name in sorted(arrays):
        dtype, array = arrays[name]
        header = {"dtype": dtype, "name": name, "shape": list(array.shape)}
        stream += json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        stream += array.astype(array.dtype.newbyteorder("<")).tobytes(order="C")
    return hashlib.sha256(stream).hexdigest()


def test_the_fingerprint_is_what_the_docstring_says():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)).astype(np.float32), rng.integers(-9, 9, size=5)
    module = Holder(b=torch.from_numpy(b), a=torch.from_numpy(a), zero=torch.tensor(2.5, dtype=torch.float64))
    expected = {"a": ("float32", a), "b": ("int64", b), "zero": ("float64", np.array(2.5))}
    assert weights_sha256(module) == by_definition(expected)


def test_bfloat16_are_hashed_by_their_bits():
    module = Holder(w=torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    assert weights_sha256(module) == by_definition({"w": ("bfloat16", np.array([0x3F80, 0xC000], dtype=np.uint16))})


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.bool, torch.float16, torch.complex64, torch.float8_e4m3fn, torch.uint16]
)
def test_every_type_can_be_hashed_and_is_told_from_others(dtype):
    plain = torch.tensor([1, 0, 1, 1], dtype=torch.float32)
    assert weights_sha256(Holder(w=plain.to(dtype))) != weights_sha256(Holder(w=plain))


def test_memory_layout_and_sharing_play_no_part():
    tensor = torch.arange(12.0).view(3, 4)
    plain = weights_sha256(Holder(w=tensor.clone(), v=tensor.clone()))
    assert weights_sha256(Holder(w=tensor, v=tensor)) == plain
    turned = tensor.t().contiguous().t()
    assert not turned.is_contiguous()
    assert weights_sha256(Holder(w=turned, v=tensor.expand(2, 3, 4)[1])) == plain
    for count in (0, 1):
        one = torch.tensor(2.0).expand(count)  # of stride 0, and counted as contiguous all the same
        assert weights_sha256(Holder(w=one)) == weights_sha256(Holder(w=torch.full((count,), 2.0)))


def test_lazy_conjugates_are_resolved():
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    assert weights_sha256(Holder(w=tensor.conj())) == weights_sha256(Holder(w=tensor.conj().resolve_conj()))


def test_mode_and_order_of_registration_play_no_part_but_every_number_does():
    a, b = torch.ones(2), torch.zeros(2)
    module = Holder(a=a, b=b)
    whole = weights_sha256(module)
    assert weights_sha256(Holder(b=b, a=a).train()) == whole == weights_sha256(module.eval())
    assert weights_sha256(Holder(a=b, b=a)) != whole
    assert weights_sha256(Holder(a=a, c=b)) != whole
    assert weights_sha256(Holder(a=a, b=b.view(1, 2))) != whole
    changed = b.clone()
    changed[1] = torch.nextafter(changed[1], torch.tensor(1.0))
    assert weights_sha256(Holder(a=a, b=changed)) != whole


def test_names_and_values_cant_be_traded_for_each_other():
    assert weights_sha256(Holder(ab=torch.zeros(0))) != weights_sha256(Holder(a=torch.zeros(0), b=torch.zeros(0)))
    assert weights_sha256(nn.Identity()) == hashlib.sha256(b"").hexdigest()


def test_bytes_are_little_endian_on_any_machine():
    tensor = torch.tensor([1, 256], dtype=torch.int32)
    assert bytes(_little_endian(tensor)) == bytes([1, 0, 0, 0, 0, 1, 0, 0])
    # On a big-endian machine the bytes of every number are in reverse order in memory.
    assert _little_endian(tensor, "big") == bytes([0, 0, 0, 1, 0, 0, 1, 0])
    assert len(_little_endian(torch.zeros(2, dtype=torch.complex64), "big")) == 16


def test_weights_without_values_are_refused():
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    with pytest.raises(ModelspaceError, match="the weight bias has no values: it is on the meta device"):
        weights_sha256(module)
    with pytest.raises(ModelspaceError, match="the weight bias is not initialised yet"):
        weights_sha256(nn.LazyLinear(3))


class WithExtra(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def get_extra_state(self):
        return self.extra


def test_extra_state_is_hashed_where_it_has_one_spelling():
    assert weights_sha256(WithExtra({"a": 1, "b": 2})) == weights_sha256(WithExtra({"b": 2, "a": 1}))
    assert weights_sha256(WithExtra({"a": 1})) != weights_sha256(WithExtra({"a": 2}))
    assert weights_sha256(WithExtra(torch.ones(2))) != weights_sha256(WithExtra(torch.zeros(2)))
    with pytest.raises(ModelspaceError, match="_extra_state is a object, not a tensor"):
        weights_sha256(WithExtra(object()))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_sparse_and_quantised_tensors():
    dense = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert weights_sha256(Holder(w=dense.to_sparse())) == weights_sha256(Holder(w=dense))
    one = torch.quantize_per_tensor(dense, 0.5, 1, torch.qint8)
    other = torch.quantize_per_tensor(dense * 2, 1.0, 1, torch.qint8)
    assert torch.equal(one.int_repr(), other.int_repr())
    assert weights_sha256(Holder(w=one)) != weights_sha256(Holder(w=other))
