"""Every kind of tensor that a module can hold or give: a registered model or one sentence, and the module as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from modelspace import ModelSpace
from modelspace.attribution.engine import frozen
from modelspace.errors import EmbeddingError, ModelspaceError
from modelspace.sources import weights_sha256

INPUT = {"input_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.quantize_per"),
    pytest.mark.filterwarnings("ignore:.*[Ss]parse"),
    pytest.mark.filterwarnings("ignore:.*[Nn]ested"),
    pytest.mark.filterwarnings("ignore:.*ComplexHalf"),
]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    return ModelSpace.create(tmp_path_factory.mktemp("space"), images=4, canvas=16)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


# --- what a module can hold


def bytes_as(dtype: torch.dtype) -> Callable[[], Tensor]:
    return lambda: torch.arange(4, dtype=torch.uint8).view(dtype)


def of_inference_mode() -> Tensor:
    with torch.inference_mode():
        return torch.ones(3)


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.ones(3)


def freed() -> Tensor:
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    return tensor


class Subclass(Tensor):
    pass


KINDS: dict[str, Callable[[], Tensor]] = {
    "no elements, stride 0": lambda: torch.tensor(np.zeros(0, np.float32)),
    "no elements": lambda: torch.empty(0, 3),
    "expanded to one": lambda: torch.ones(()).expand(1),
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "transposed": lambda: torch.arange(12.0).reshape(3, 4).t()[::2],
    "0-d": lambda: torch.tensor(2.0),
    "not a number": lambda: torch.tensor([float("nan"), float("-inf")]),
    "meta": lambda: torch.empty(3, device="meta"),
    "fake": fake,
    "freed": freed,
    "inference": of_inference_mode,
    "subclass": lambda: torch.ones(3).as_subclass(Subclass),
    "complex64": lambda: torch.ones(3, dtype=torch.complex64),
    "complex128": lambda: torch.ones(3, dtype=torch.complex128),
    "conjugate": lambda: torch.full((3,), 1 + 2j).conj(),
    "negative": lambda: torch.full((3,), 1 + 2j).conj().imag,
    "complex32": lambda: torch.ones(3, dtype=torch.complex32),
    "float16": lambda: torch.ones(3).half(),
    "bfloat16": lambda: torch.ones(3).bfloat16(),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "uint16": lambda: torch.ones(3).to(torch.uint16),
    "uint64": lambda: torch.ones(3).to(torch.uint64),
    "bits8": bytes_as(torch.bits8),
    "uint4": bytes_as(torch.uint4),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "quantised by channel": lambda: torch.quantize_per_channel(
        torch.ones(3, 2), torch.full((3,), 0.1), torch.zeros(3).long(), 0, torch.qint8
    ),
    "sparse coo": lambda: torch.eye(3).to_sparse(),
    "sparse coo, repeated": lambda: torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,), check_invariants=False),
    "sparse csr": lambda: torch.eye(3).to_sparse_csr(),
    "sparse csc": lambda: torch.eye(3).to_sparse_csc(),
    "sparse bsr": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
}
WITHOUT_VALUES = ("meta", "fake", "freed")


def as_buffer(tensor: Tensor) -> nn.Module:
    module = net()
    module.register_buffer("extra", tensor)
    return module


def as_hidden_buffer(tensor: Tensor) -> nn.Module:
    module = net()
    module.register_buffer("extra", tensor, persistent=False)
    return module


def as_parameter(tensor: Tensor) -> nn.Module:
    module = net()
    with torch.inference_mode(tensor.is_inference()):
        module.extra = nn.Parameter(tensor, tensor.is_floating_point() or tensor.is_complex())
    return module


def as_attribute(tensor: Tensor) -> nn.Module:
    module = net()
    module.extra = tensor
    return module


def seen(tensor: Tensor, kind: str = "") -> tuple[object, ...]:
    """What anyone can notice of a tensor, by means that modelspace does not use."""
    facts = id(tensor), type(tensor), tensor.dtype, tensor.layout, tensor.requires_grad, tensor.is_inference()
    if kind == "freed":
        return (*facts, tensor.untyped_storage().nbytes())
    tensor = tensor.detach().view(torch.uint8) if kind in ("bits8", "uint4") else tensor
    return (*facts, repr(tensor), tensor.stride() if tensor.layout == torch.strided and kind != "nested" else None)


def weights(module: nn.Module) -> list[tuple[object, ...]]:
    return [seen(parameter) for name, parameter in module.named_parameters() if name != "extra"]


@pytest.mark.first(1)
@pytest.mark.sampled(7)
@pytest.mark.parametrize("way", [as_buffer, as_hidden_buffer, as_parameter, as_attribute])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_that_holds_it(kind: str, way: Callable[[Tensor], nn.Module], space: ModelSpace) -> None:
    module = way(KINDS[kind]())
    tensor: Any = module.extra
    before = seen(tensor, kind), weights(module), module.training
    if kind in WITHOUT_VALUES and way in (as_buffer, as_parameter):
        with pytest.raises(ModelspaceError, match="the weight extra has no values: it"):
            space.add(module, name="refused", preprocessing=INPUT)
    else:
        name = f"{list(KINDS).index(kind)}-{way.__name__}"
        assert space.add(module, name=name, preprocessing=INPUT).status == "added"
    assert module.extra is tensor
    assert (seen(tensor, kind), weights(module), module.training) == before


def test_a_module_made_in_inference_mode(space: ModelSpace) -> None:
    torch.manual_seed(3)
    with torch.inference_mode():
        module = net()
    before = weights(module)
    added = space.add(module, name="of-inference-mode", preprocessing=INPUT)
    torch.manual_seed(3)
    assert space.add(net(), name="plain", preprocessing=INPUT).card.weights_sha256 == added.card.weights_sha256
    assert space.cosines(["of-inference-mode", "plain"])[0, 1] == pytest.approx(1, abs=1e-6)
    assert weights(module) == before


def test_the_fingerprint_tells_values_from_others() -> None:
    pairs: list[tuple[Tensor, Tensor]] = [
        (torch.eye(3).to_sparse(), 2 * torch.eye(3).to_sparse()),
        (torch.eye(3).to_sparse_csr(), 2 * torch.eye(3).to_sparse_csr()),
        (bytes_as(torch.uint4)(), bytes_as(torch.uint4)().view(torch.uint8).flip(0).view(torch.uint4)),
        (torch.nested.nested_tensor([torch.ones(2)]), torch.nested.nested_tensor([torch.zeros(2)])),
        (torch.full((2,), 1j).conj(), torch.full((2,), 1j)),
        (torch.ones(()).expand(3), torch.zeros(()).expand(3)),
        (torch.ones(1, dtype=torch.complex128), torch.full((1,), 1j, dtype=torch.complex128)),
    ]
    for a, b in pairs:
        assert fingerprint(a) != fingerprint(b)
        assert fingerprint(a) == fingerprint(a)
    assert fingerprint(torch.full((2,), 1j).conj()) == fingerprint(torch.full((2,), complex(0, -1)))


def fingerprint(tensor: Tensor) -> str:
    module = nn.Module()
    module.register_buffer("w", tensor)
    return weights_sha256(module)


# --- what a forward pass does with it


class Writer(nn.Module):
    """Changes its buffer in the forward pass."""

    def __init__(self, write: Callable[[Any], object], tensor: Tensor, persistent: bool = True) -> None:
        super().__init__()
        self.net, self.write = net(), write
        self.register_buffer("low", tensor, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        self.write(self)
        return self.net(x)


def exchange(module: Any, value: Tensor) -> None:
    module.low.data = value


WRITES: dict[str, tuple[Callable[[Any], object], bool]] = {
    # what is done, and whether it differs from pass to pass
    "enlarged": (lambda m: m.low.resize_(8).fill_(0.0), False),
    "shortened": (lambda m: m.low.resize_(1), False),
    "longer every time": (lambda m: m.low.resize_(m.low.numel() + 1).fill_(0.0), True),
    "other memory": (lambda m: exchange(m, torch.zeros(9)), False),
    "set": (lambda m: m.low.set_(torch.zeros(9)), False),
    "another tensor": (lambda m: setattr(m, "low", torch.zeros(9)), False),
    "another type": (lambda m: exchange(m, m.low.data.double()), False),
    "expanded": (lambda m: exchange(m, torch.zeros(()).expand(3)), False),
    "counted": (lambda m: m.low.add_(1.0), True),
}


@pytest.mark.sampled(3)
@pytest.mark.first(2)
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("write", WRITES)
def test_a_buffer_that_the_forward_pass_changes(write: str, persistent: bool, space: ModelSpace) -> None:
    change, counts = WRITES[write]
    module = Writer(change, torch.arange(3.0), persistent)
    before = seen(module.low)
    if counts:
        with pytest.raises(EmbeddingError, match="keeps state, also in eval mode: it writes into low"):
            space.add(module, name="refused", preprocessing=INPUT)
    else:
        assert space.add(module, name=f"{write}-{persistent}".replace(" ", "-"), preprocessing=INPUT).status == "added"
    assert seen(module.low) == before


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("sparse coo", lambda m: m.low._values().add_(1.0)),
        ("sparse csr", lambda m: m.low.values().add_(1.0)),
        ("quantised", lambda m: m.low.copy_(torch.zeros(3))),
        ("nested", lambda m: m.low.add_(1.0)),
        ("conjugate", lambda m: m.low.add_(1j)),
        ("negative", lambda m: m.low.add_(1.0)),
        ("expanded", lambda m: m.low[0].add_(1.0)),
        ("complex128", lambda m: m.low.add_(1j)),
        ("inference", lambda m: m._buffers.update(low=m.low + 1)),
        ("uint4", lambda m: m.low.view(torch.uint8).add_(1)),
    ],
)
def test_what_was_written_is_put_back(kind: str, write: Callable[[Any], object]) -> None:
    module = Writer(write, KINDS[kind]())
    before = seen(module.low, kind)
    x = torch.zeros(1, 3, 32, 32)
    with frozen(module):
        module(x)
        assert seen(module.low, kind) != before
    assert seen(module.low, kind) == before


# --- what a model can give


class Score(nn.Module):
    """One number per image, in some form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.fc, self.form, self.modelspace_layer = nn.Conv2d(3, 8, 3, 4, 1), nn.Linear(8, 1), form, "output"

    def forward(self, x: Tensor) -> Any:
        return self.form(self.fc(self.conv(x).relu().mean((2, 3))))


def outputs() -> Iterator[tuple[str, Callable[[Tensor], Any], str]]:
    """Name, form, and the words of the refusal; none: it is registered."""
    yield "one-number", lambda y: y.squeeze(1), ""
    yield "one-column", lambda y: y, ""
    yield "one-pixel", lambda y: y[:, :, None, None], ""
    yield "a-dict", lambda y: {"score": y.squeeze(1)}, ""
    yield "half", lambda y: y.half(), "computes in float16 inside"
    yield "one-for-all", lambda y: y.sum(), "has shape () for 2 images: its first axis is not the batch"
    yield "one-row", lambda y: y.T, "has shape (1, 2) for 2 images: its first axis is not the batch"
    yield "a-float", lambda y: float(y.sum().detach()), "the layer gives float, in which there is no tensor"
    yield "nothing", lambda y: None, "the layer gives NoneType, in which there is no tensor"
    yield "complex", lambda y: torch.complex(y, y), "is of type complex64, which has no gradient"
    yield "whole", lambda y: y.long(), "is of type int64, which has no gradient"
    yield "truth", lambda y: y > 0, "is of type bool, which has no gradient"
    yield "quantised", lambda y: torch.quantize_per_tensor(y.detach(), 0.1, 0, torch.qint8), "is of type qint8, which"
    yield "sparse", lambda y: y.to_sparse(), "is a sparse coo tensor, and attribution needs a dense one"
    yield "nested", lambda y: torch.nested.nested_tensor(list(y)), "is a nested tensor, and attribution needs a dense"
    yield "meta", lambda y: y.to("meta"), "has no values: it is on the meta device"
    yield "empty", lambda y: y[:, :0], "has no elements: its shape is (2, 0)"
    yield "infinite", lambda y: y / 0, "is not finite"


@pytest.mark.first(3)
@pytest.mark.parametrize(("name", "form", "words"), list(outputs()))
def test_a_model_that_gives_it(name: str, form: Callable[[Tensor], Any], words: str, space: ModelSpace) -> None:
    module = Score(form)
    before = weights(module)
    if words:
        with pytest.raises(ModelspaceError) as caught:
            space.add(module, name=name, preprocessing=INPUT)
        assert words in caught.value.message
        assert caught.value.hint
    else:
        assert space.add(module, name=name, preprocessing=INPUT).card.output_shape[0] == 1
    assert weights(module) == before


def test_a_model_that_gives_a_detached_tensor_has_kernels_alone(space: ModelSpace) -> None:
    added = space.add(Score(lambda y: torch.cat([y, y**2], 1).detach()), name="detached", preprocessing=INPUT)
    assert not {"gradient_x_input", "saliency"} & set(added.spaces)
    assert "dds" in added.spaces
    assert "has no gradient with respect to the input" in added.notes[-1]


def test_layers_of_one_number_per_image_are_listed(space: ModelSpace, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\nclass Score(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 8, 3, 4), nn.Linear(8, 1)\n\n    def forward(self, x):\n"
        "        return self.fc(self.conv(x).relu().mean((2, 3))).squeeze(1)\n"
    )
    rows, tap, _ = space.layers(f"python:{tmp_path / 'nets.py'}:Score", preprocessing=INPUT)
    assert "fc" in {row.name for row in rows}
    assert tap == "fc:in"
