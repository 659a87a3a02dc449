"""What adding and removing a model costs beyond its pass, against the number of models.

    python scripts/bench_add.py                          # 50, 200, 600, 2,000 models
    python scripts/bench_add.py --models 1000 100000     # a registry of each size in turn

Each registry has the standard spaces on 20 images of a folder and, unless `--canvas` and `--images` say otherwise, the
canvas of `modelspace init`. Its first models, as many as have exact vectors, are drawn: families of near-copies, stored
with maps and kernels of full size. Those past them are copies of their rows with other coordinates and the same number
of rows of maps, but few bytes in each, written in bulk: an add reads none of them. Then a small network is added five
times and removed again, in this process. Figures are medians of CPU seconds: of all, of the pass, of the index files
that follow a change, and of the rest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from modelspace.registry import EmbeddingRow, Registry  # noqa: E402
from modelspace.representations import kernels, maps  # noqa: E402
from modelspace.spaces import anchors, coordinates, index  # noqa: E402
from modelspace.spaces.kinds import KernelSpace, MapSpace, StoredSpace, space_of  # noqa: E402
from modelspace.types import ModelCard, Preprocessing  # noqa: E402
from modelspace.verbs import add as verb  # noqa: E402
from modelspace.workspace import ModelSpace  # noqa: E402

#: Bytes of codes in each row of maps of a model that is a copy.
COPIED_BYTES = 16

#: Models of a family, and how much they differ from its first.
FAMILY, NOISE = 8, 0.3

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[50, 200, 600, 2000])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--canvas", type=int, default=None)
    options = parser.parse_args()
    heads = ("models", "add", "pass", "index", "beyond", "remove", "index", "beyond", "file, MB")
    print(" ".join(f"{head:>9}" for head in heads), flush=True)
    for n_models in options.models:
        with tempfile.TemporaryDirectory() as folder:
            space = populated(Path(folder), n_models, options.images, options.canvas)
            row = (*timed(space), space.path.stat().st_size / 1e6)
            print(f"{n_models:9} " + " ".join(f"{value:9.3f}" for value in row), flush=True)


def timed(space: ModelSpace) -> tuple[float, ...]:
    """Medians of the CPU seconds of an add, of its pass, its index files and the rest; of a removal, likewise."""
    rows = []
    for seed in range(REPEATS + 1):
        passes: list[float] = []
        indexes: list[float] = []
        parts = ((verb, "run_pass", passes), (index, "load", indexes))
        with ExitStack() as stack:
            for module, name, seconds in parts:
                stack.enter_context(mock.patch.object(module, name, clocked(getattr(module, name), seconds)))
            adds, of_add = clocked(add, [])(space, seed), len(indexes)
            removals = clocked(removed, [])(space, seed)
        indexed = sum(indexes[:of_add]), sum(indexes[of_add:])
        beyond = adds - sum(passes) - indexed[0]
        rows.append((adds, sum(passes), indexed[0], beyond, removals, indexed[1], removals - indexed[1]))
    return tuple(map(float, np.median(rows[1:], axis=0)))  # the first add imports modules


def populated(home: Path, n_models: int, n_images: int, canvas: int | None) -> ModelSpace:
    """A registry of the standard spaces with this number of models."""
    pictures = home / "pictures"
    pictures.mkdir()
    draw = np.random.default_rng(0)
    for k in range(n_images):
        coarse = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((128, 128)).save(pictures / f"{k:04}.png")
    shape = {} if canvas is None else {"canvas": canvas}
    space = ModelSpace.create(home / "registry", probes=pictures, images=n_images, **shape)
    with Registry.open(space.path, write=True) as registry:
        n_exact = min(n_models, coordinates.MAX_EXACT)
        with registry.transaction():
            fill_exact(registry, n_exact, draw)
        if n_models > n_exact:
            with registry.transaction():
                for row in registry.spaces():
                    if not registry.has_anchors(row.spec.space_id):
                        anchors.choose(registry, row.spec)
            copy(registry, n_exact, n_models)
    return space


def fill_exact(registry: Registry, n: int, draw: np.random.Generator) -> None:
    """Add n models with exact vectors to all spaces."""
    ids = [registry.add_model(card(k)) for k in range(n)]
    grams: dict[str, np.ndarray] = {}
    for row in registry.spaces():
        space = space_of(row.spec)
        if isinstance(space, StoredSpace):
            blocks = [drawn(space, k, draw) for k in range(n)]
            table = np.stack([np.concatenate([space.unit_rows(b).ravel() for b in each]) for each in blocks])
            grams[row.spec.space_id] = table @ table.T / row.spec.n_images
        else:
            blocks = [[] for _ in ids]
            weights = row.spec.parameters["members"]
            grams[row.spec.space_id] = sum(weight * grams[i] for i, weight in weights.items())  # type: ignore[assignment]
        gram = grams[row.spec.space_id]
        factor = coordinates.Factor()
        for k, model_id in enumerate(ids):
            placed = factor.append(gram[k, :k])
            registry.add_embedding(
                row.spec.space_id,
                EmbeddingRow(model_id, k, placed.vector, gram[k, :k], placed.axis, placed.residual),
                blocks[k],
                derived=space.is_derived,
            )


def drawn(space: StoredSpace, k: int, draw: np.random.Generator) -> list[maps.MapBlock]:
    """Blocks of model k: near those of its family."""
    centre = np.random.default_rng(k // FAMILY)
    n, spec = space.spec.n_images, space.spec
    if isinstance(space, KernelSpace):
        features = centre.normal(size=(n, 32)) + NOISE * draw.normal(size=(n, 32))
        return [kernels.to_block(kernels.kernel(spec.method, features), spec.bits)]
    assert isinstance(space, MapSpace)
    pixels = centre.normal(size=(n, spec.canvas**2)) + NOISE * draw.normal(size=(n, spec.canvas**2))
    writer = maps.MapWriter(spec.canvas, spec.bits)
    writer.write(maps.unit(pixels).astype(np.float32).reshape(n, spec.canvas, spec.canvas))
    return writer.close()


def copy(registry: Registry, n: int, n_models: int) -> None:
    """Add copies of the first n models' rows, until there are n_models."""
    duck = registry.connection.duck
    duck.execute("BEGIN")
    columns = "uri, weights_sha256, architecture, task, data, layer, layer_found_by, output_shape, input_height,"
    columns += " input_width, preprocessing, parameters, seconds, tags, added_at, code_sha256, options, torch"
    numbers = f"range({n + 1}, {n_models + 1}) r(i)"
    duck.execute(
        f"INSERT INTO main.models (model_id, name, identity, {columns}) SELECT i, 'copy' || i, sha256(i::VARCHAR),"
        f" {columns} FROM {numbers} JOIN main.models m ON m.model_id = 1 + i % {n} ORDER BY i"
    )
    for row in registry.spaces():
        duck.execute(
            "INSERT INTO main.embeddings (space_id, model_id, position, vector, affinities, residual, coordinates)"
            f" SELECT space_id, i, i - 1, [], [], residual, coordinates FROM {numbers}"
            f" JOIN main.embeddings e ON e.model_id = 1 + i % {n} AND e.space_id = ? ORDER BY i",
            [row.spec.space_id],
        )
        duck.execute(
            "INSERT INTO main.maps SELECT space_id, i, first_image, n_images, part,"
            f" repeat('x', {COPIED_BYTES})::BLOB, repeat('x', {COPIED_BYTES})::BLOB, NULL FROM {numbers}"
            f" JOIN main.maps p ON p.model_id = 1 + i % {n} AND p.space_id = ? ORDER BY i, part",
            [row.spec.space_id],
        )
        duck.execute(
            "UPDATE main.spaces SET n_models = ?, next_position = ?, generation = generation + 1 WHERE space_id = ?",
            [n_models, n_models, row.spec.space_id],
        )
    duck.execute(f"SELECT count(nextval('main.model_ids')) FROM range({n_models - n})").fetchall()
    duck.execute("COMMIT")


def card(k: int) -> ModelCard:
    shape = Preprocessing(input_size=(64, 64), mean=(0, 0, 0), std=(1, 1, 1))
    return ModelCard(f"model{k}", f"drawn:{k}", f"{k:064x}", "output", "output", (8,), shape, 1000, "net")


def add(space: ModelSpace, seed: int) -> None:
    """Add a small network."""
    torch.manual_seed(seed)
    first, second = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 16, 3, stride=2)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2))
    space.add(net, name=f"new{seed}", layer="output", preprocessing={"input_size": 64, "mean": [0] * 3, "std": [1] * 3})


def removed(space: ModelSpace, seed: int) -> None:
    """Remove that network again."""
    space.remove(f"new{seed}")


def clocked(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, which appends the CPU seconds of each call to a list, and returns them for want of a result."""

    def call(*values: Any, **options: Any) -> Any:
        start = time.process_time()
        result = function(*values, **options)
        seconds.append(time.process_time() - start)
        return seconds[-1] if result is None else result

    return call


if __name__ == "__main__":
    main()
