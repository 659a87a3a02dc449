"""Kernel spaces: kernels of the encoder output, from the features to the neighbours of a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from modelspace import probes
from modelspace.errors import EmbeddingError, UsageError
from modelspace.lab import similarity
from modelspace.probes.preprocess import to_input
from modelspace.registry import Registry
from modelspace.representations import kernels
from modelspace.representations.maps import whole_block
from modelspace.spaces.kinds import KernelSpace, decode_unit
from modelspace.types import SpaceSpec
from modelspace.workspace import ModelSpace

N = 12
METHODS = tuple(KernelSpace.methods())


@pytest.fixture(scope="module")
def tables() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((N, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d) for d in (3, 7, 40)]


def test_the_names_are_those_of_the_types() -> None:
    assert tuple(kernels.KERNELS) == METHODS == tuple(kernels.SUMMARIES)


def slow(method: str, x: np.ndarray, y: np.ndarray) -> float:
    """The similarities from their definitions, image by image."""
    if method == "rsa":
        pairs = [(i, j) for i in range(N) for j in range(i + 1, N)]
        first, second = ([1 - pearsonr(t[i], t[j])[0] for i, j in pairs] for t in (x, y))
        return float(spearmanr(first, second)[0])

    def kernel(table: np.ndarray) -> np.ndarray:
        if method == "dds":
            table = (table - table.mean(0)) / table.std(0)
            return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in table] for a in table])
        return table @ table.T

    centring = np.eye(N) - np.ones((N, N)) / N
    k, m = (centring @ kernel(t) @ centring for t in (x, y))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


@pytest.mark.parametrize("method", METHODS)
def test_inner_products_of_kernels_are_the_published_similarities(method: str, tables: list[np.ndarray]) -> None:
    matrices = [kernels.kernel(method, table) for table in tables]
    for i, kernel in enumerate(matrices):
        assert np.allclose(kernel, kernel.T)
        for j, other in enumerate(matrices):
            assert float((kernel * other).sum()) == pytest.approx(slow(method, tables[i], tables[j]), abs=1e-9)


@given(st.integers(0, 1000), st.sampled_from(METHODS), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_kernels_are_invariant_to_scale_and_shift_and_follow_the_order_of_images(
    seed: int, method: str, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((N, 9))
    order = rng.permutation(N)
    kernel = kernels.kernel(method, table)
    assert np.allclose(kernels.kernel(method, table * scale), kernel, atol=1e-9)
    assert np.allclose(kernels.kernel(method, table[order]), kernel[np.ix_(order, order)], atol=1e-9)
    if method != "rsa":  # Pearson's correlation is over features, so a shift of one feature changes it
        assert np.allclose(kernels.kernel(method, table + rng.standard_normal(9)), kernel, atol=1e-9)


def test_features_without_a_kernel_are_refused() -> None:
    with pytest.raises(EmbeddingError, match="same for every probe image"):
        kernels.kernel("dds", np.ones((N, 4)))
    with pytest.raises(EmbeddingError, match="not finite"):
        kernels.kernel("dds", np.full((N, 4), np.nan))
    with pytest.raises(UsageError, match="2 probe images"):
        kernels.kernel("rsa", np.eye(2))


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_stored_kernel_has_unit_norm_and_is_close_to_the_exact_one(bits: int, tables: list[np.ndarray]) -> None:
    spec = SpaceSpec("s", "p", "dds", N, 0, bits)
    kernel = kernels.kernel("dds", tables[2])
    (block,) = whole_block(kernel.astype(np.float32), bits)
    rows = decode_unit(block, spec)
    assert np.linalg.norm(rows) ** 2 / N == pytest.approx(1.0, abs=1e-15)
    assert np.allclose(rows / np.sqrt(N), kernel, atol=4.0 ** -(bits / 2))
    assert np.array_equal(KernelSpace(spec).kernel([block]), KernelSpace(spec).kernel([block]).T)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5,), 5),
        ((16, 8, 8), 1024),
        ((48, 16, 16), 48 * 64),  # an 8 x 8 grid
        ((2048, 7, 7), 8192),  # 2 x 2
        ((9000, 4, 4), 8192),  # more channels than fit: folded
        ((197, 768), 10 * 768),  # tokens
        ((20000,), 8192),
    ],
)
def test_t_is_reduced_to_a_bounded_table(shape: tuple[int, ...], expected: int) -> None:
    values = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    table = kernels.reduced(values)
    assert table.shape == (2, expected)
    assert torch.equal(table, kernels.reduced(values))
    if shape[0] == 48:
        assert torch.allclose(table.reshape(2, 48, 8, 8), values.reshape(2, 48, 8, 2, 8, 2).mean((3, 5)), atol=1e-6)


def test_folding_keeps_inner_products() -> None:
    values = torch.randn((40, 30_000), generator=torch.Generator().manual_seed(1))
    values[20:] += values[:20]
    exact, folded = values @ values.T, kernels.reduced(values) @ kernels.reduced(values).T
    assert float(np.corrcoef(exact.ravel(), folded.ravel())[0, 1]) > 0.99


def test_folding_deals_elements_with_random_signs_by_definition() -> None:
    values = torch.randn((2, 9000), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(0)
    buckets = torch.randint(kernels.MOST, (9000,), generator=generator).tolist()
    signs = [(-1.0, 1.0)[drawn] for drawn in torch.randint(0, 2, (9000,), generator=generator).tolist()]
    expected = np.zeros((2, 8192))
    for element, (bucket, sign) in enumerate(zip(buckets, signs, strict=True)):
        expected[:, bucket] += sign * values[:, element].double().numpy()
    np.testing.assert_allclose(kernels.reduced(values).numpy(), expected, atol=1e-5)


def test_pixels_and_tokens_are_averaged_over_cells() -> None:
    """A side of 5 fits 300 channels, of which a map of 3 rows has 3; 8 tokens of 3,000 values are averaged in two."""
    generator = torch.Generator().manual_seed(3)
    maps, tokens = torch.randn((2, 300, 3, 40), generator=generator), torch.randn((2, 8, 3000), generator=generator)
    cells = maps.double().reshape(2, 300, 3, 5, 8).mean(4).flatten(1)
    torch.testing.assert_close(kernels.reduced(maps).double(), cells, atol=1e-6, rtol=0)
    runs = tokens.double().reshape(2, 2, 4, 3000).mean(2).transpose(1, 2).flatten(1)
    torch.testing.assert_close(kernels.reduced(tokens).double(), runs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(32, 16, 16), (64, 128), (8192,)])
def test_a_t_of_exactly_the_size_of_the_table_is_flattened(shape: tuple[int, ...]) -> None:
    values = torch.randn((1, *shape), generator=torch.Generator().manual_seed(5))
    assert torch.equal(kernels.reduced(values), values.flatten(1))


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_whether_a_unit_is_constant_does_not_depend_on_its_scale(scale: float) -> None:
    table = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    np.testing.assert_allclose(kernels.z_scored(table * scale), kernels.z_scored(table), rtol=1e-12)
    assert kernels.z_scored(table * scale).shape == (3, 1)


def test_tokens_that_are_larger_than_the_table_are_averaged_over_all_and_folded() -> None:
    tokens = torch.randn((1, 4, 9000), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(kernels.reduced(tokens), kernels.reduced(tokens.mean(1)))


@pytest.mark.parametrize("n", [2, kernels.MAX_IMAGES + 1])
def test_the_number_of_images_is_bounded(n: int) -> None:
    assert kernels.MAX_IMAGES == 4096
    with pytest.raises(UsageError, match=f"can't have {n} probe images"):
        kernels.kernel("dds", np.ones((n, 1)))


def test_a_row_of_zeros_stays_and_a_unit_that_is_constant_is_left_out() -> None:
    np.testing.assert_array_equal(kernels.unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
    table = np.array([[1.0, 7.0, 0.1], [2.0, 7.0, 0.1 + 1e-17], [3.0, 7.0, 0.1]])
    np.testing.assert_allclose(kernels.z_scored(table), np.array([[-1.0], [0.0], [1.0]]) * np.sqrt(1.5))
    with pytest.raises(UsageError, match="the same for every image"):
        kernels.unit(np.zeros((2, 2)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    space = ModelSpace.create(tmp_path_factory.mktemp("kernels"), methods=METHODS, images=N, bits=16)
    space.init(methods=("saliency",), images=N, canvas=8)
    for name, module in (("a", tiny.net(0)), ("b", tiny.net(1)), ("a-near", tiny.near(0, 0.01)), ("c", tiny.net(2))):
        tiny.add(space, name, module)
    return space


@pytest.mark.first(1)
@pytest.mark.parametrize("method", METHODS)
def test_affinities_of_a_space_are_the_similarities_of_the_encoder_outputs(home: ModelSpace, method: str) -> None:
    images = np.concatenate(list(probes.batches(probes.rooms(N), None, 0, N, N)))
    x = to_input(images, tiny.PREPROCESSING)
    tables = []
    for module in (tiny.net(0), tiny.net(1), tiny.near(0, 0.01), tiny.net(2)):
        outputs: list[torch.Tensor] = []
        module.fc.register_forward_hook(lambda _, inputs, __, outputs=outputs: outputs.append(inputs[0]))
        with torch.no_grad():
            module(x)
        tables.append(outputs[0].numpy())
    function = {"dds": similarity.dds, "linear_cka": similarity.linear_cka, "rsa": similarity.rsa}[method]
    affinity = home.affinity(method)
    assert affinity.names == ("a", "b", "a-near", "c")
    # 16 bits per element, of kernels whose entries are below 1
    assert np.allclose(affinity.matrix, function(tables), atol=2e-4)
    assert home.nearest("a", 1, space=method)[0].name == "a-near"


def test_a_kernel_is_one_block_and_passes_the_checks(home: ModelSpace) -> None:
    with Registry.open(home.path) as registry:
        spec = registry.space("dds").spec
        blocks = list(registry.map_blocks(spec.space_id, 1))
        assert [block.n_images for block in blocks] == [N]
        assert len(blocks[0].codes) == N * (N + 1) // 2 * 2
    assert all(check.ok for check in home.verify(deep=True))


def test_a_kernel_space_has_no_maps_to_show(home: ModelSpace) -> None:
    with pytest.raises(UsageError, match="holds no attribution maps"):
        home.maps("a", "dds")
    with pytest.raises(UsageError, match="holds no attribution maps"):
        home.gallery(space="dds")
    assert home.maps("a", "saliency").shape == (N, 8, 8)


@pytest.mark.wide
def test_without_attribution_no_gradient_is_needed(tmp_path: Path) -> None:
    class Detached(torch.nn.Module):
        """Its output is detached from its input: no attribution, but a kernel."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny.net(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.detach())

    space = ModelSpace.create(tmp_path, methods=("dds",), images=N)
    tiny.add(space, "cut", Detached(), layer="output")
    assert len(space.list()) == 1
    other = ModelSpace.create(tmp_path / "maps", methods=("saliency",), images=N, canvas=8)
    with pytest.raises(EmbeddingError):
        tiny.add(other, "cut", Detached(), layer="output")


def test_images_that_influence_each_other_are_refused(tmp_path: Path) -> None:
    class Mixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values = x.mean((2, 3))
            return values - values.mean(0, keepdim=True)

    space = ModelSpace.create(tmp_path, methods=("linear_cka",), images=N)
    with pytest.raises(EmbeddingError, match="depends on the other images"):
        tiny.add(space, "mixed", Mixed(), layer="output")
    assert len(space.list()) == 0
