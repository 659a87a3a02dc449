"""Running out of memory: which exceptions mean it, and halving the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelspace.attribution.engine import attribute
from modelspace.attribution.memory import in_parts, is_out_of_memory
from modelspace.errors import EmbeddingError


def of_the_allocator() -> RuntimeError:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 52)
    return raised.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_exceptions_mean_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    assert is_out_of_memory(of_the_allocator())


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("size", [1, 4, 7, 8, 20])
@pytest.mark.parametrize("in_powers", [False, True])
def test_a_batch_is_halved_until_it_fits(fits: int, size: int, in_powers: bool) -> None:
    """Every image is run once with success, in order; the returned size is one that fits."""
    x = torch.arange(8.0)[:, None]
    runs: list[list[float]] = []

    def run(part: Tensor, first: int) -> list[float]:
        assert part[0, 0] == first
        if len(part) > fits:
            raise MemoryError
        runs.append(part[:, 0].tolist())
        return runs[-1]

    results, good = in_parts(run, x, size, in_powers=in_powers)
    assert results == runs
    assert not in_powers or all(len(part) in (1, 2, 4, 8) for part in results)
    assert [value for part in results for value in part] == x[:, 0].tolist()
    assert max(map(len, results)) <= min(good, fits)


def test_a_single_image_that_does_not_fit_and_other_errors_are_raised() -> None:
    def run(part: Tensor, _: int) -> None:
        raise MemoryError if len(part) < 3 else torch.OutOfMemoryError("none left")

    with pytest.raises(MemoryError):
        in_parts(run, torch.zeros(8, 1), 8)

    def other(part: Tensor, _: int) -> None:
        raise RuntimeError(len(part))

    with pytest.raises(RuntimeError, match="8"):
        in_parts(other, torch.zeros(8, 1), 8)


class Hungry(nn.Module):
    """Runs out of memory on more than two images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.fc, self.most = nn.Linear(12, 2, bias=False), most
        with torch.no_grad():
            self.fc.weight.copy_(torch.linspace(-1, 1, 24).view(2, 12))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            torch.empty(1 << 52)
        return torch.tanh(self.fc(x.flatten(1)))


def test_integrated_gradients_take_fewer_steps_at_once() -> None:
    x = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    plenty = attribute(Hungry(1000), x, ["integrated_gradients"]).maps["integrated_gradients"]
    little = attribute(Hungry(3), x, ["integrated_gradients"]).maps["integrated_gradients"]
    torch.testing.assert_close(little, plenty, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_memory_is_not_taken_for_a_fault_of_the_model(method: str) -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as raised:
        attribute(Hungry(0), torch.rand(2, 3, 2, 2), [method])
    assert not isinstance(raised.value, EmbeddingError)
