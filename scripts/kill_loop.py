"""Repeatedly kill a process that writes to a registry, and check that no change is lost or partly applied.

    python scripts/kill_loop.py              # 10 kills, as in the tests
    python scripts/kill_loop.py --full       # 200 kills
    python scripts/kill_loop.py --kills 50 --seed 3

The writer announces each change before it begins and after it is committed. After a kill, the registry must pass its
checks and hold exactly the committed changes, with or without the one in progress. It is opened alternately for reading
and for writing, so that both ways of replaying the log are tested.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.registry import EmbeddingRow, MapBlock, ProbeRow, Registry
from modelspace.types import ModelCard, Preprocessing, SpaceSpec

N_IMAGES = 4
SPACES = tuple(SpaceSpec(name, "probes", name, N_IMAGES, 8) for name in ("gradient_x_input", "saliency"))
#: Bytes of maps per block: some changes fit into one write to the log, others trigger a checkpoint of DuckDB.
SIZES = (100, 30_000, 3_000_000)

#: A model as the loop expects it: (name when it was added, current name, task).
Model = tuple[str, str, str | None]


def blocks(name: str, space: SpaceSpec) -> Iterator[MapBlock]:
    seed = int(hashlib.sha256(f"{name} {space.name}".encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    size = SIZES[int(rng.choice(3, p=[0.6, 0.35, 0.05]))]
    for first in range(0, N_IMAGES, 2):
        yield MapBlock(first, 2, rng.bytes(size), rng.bytes(16))


def coordinates(ids: list[int]) -> list[EmbeddingRow]:
    """Valid coordinates that depend on the ids, so that a mixture of old and new ones would be detected."""
    rows = []
    for position, model_id in enumerate(ids):
        affinities = np.array([0.5 / (1 + other + len(ids)) for other in ids[:position]])
        vector = np.array([0.1] * position + [0.5 + 0.001 * (model_id % 100)])
        vector /= max(1.0, float(np.linalg.norm(vector)))
        rows.append(EmbeddingRow(model_id, position, vector, affinities, position, 0.5))
    return rows


def changed(models: list[Model], change: list) -> list[Model]:
    """The models after a change, in order of adding."""
    kind, name, value = change
    if kind == "add":
        return [*models, (name, name, None)]
    if kind == "remove":
        return [model for model in models if model[1] != name]
    if kind == "replace":  # removed and added under the same name in one transaction
        return [*(model for model in models if model[1] != name), (value, name, None)]
    if kind == "rename":
        return [(first, value if current == name else current, task) for first, current, task in models]
    return [(first, current, value if current == name else task) for first, current, task in models]


def apply(registry: Registry, change: list) -> None:
    """Make a change in one transaction."""
    kind, name, value = change
    with registry.transaction():
        if kind in ("remove", "replace"):
            registry.remove_model(registry.model(name).model_id)
            for space in SPACES:
                ids = [row.model_id for row in registry.embeddings(space.space_id)]
                registry.replace_coordinates(space.space_id, coordinates(ids))
        if kind in ("add", "replace"):
            size = Preprocessing.raw((8, 8))
            model_id = registry.add_model(ModelCard(name, "loop", value or name, "output", "loop", (1,), size, 1))
            for space in SPACES:
                ids = [*(row.model_id for row in registry.embeddings(space.space_id)), model_id]
                registry.add_embedding(space.space_id, coordinates(ids)[-1], blocks(value or name, space))
                registry.replace_coordinates(space.space_id, coordinates(ids))
        if kind == "rename":
            registry.rename_model(name, value)
        if kind == "update":
            registry.update_model(registry.model(name).model_id, task=value)


def write(path: Path, seed: int) -> None:
    """The writer: changes the registry until it is killed; reopens it from time to time."""
    rng = random.Random(seed)
    serial = 0
    while True:
        with Registry.open(path, write=True) as registry:
            names = [row.card.name for row in registry.models()]
            for _ in range(rng.choice((1, 3, 30))):
                serial += 1
                fresh = f"{seed}-{serial}"
                kind = rng.choice(("add", "add", "add", "remove", "replace", "rename", "update")) if names else "add"
                name = fresh if kind == "add" else rng.choice(names)
                if len(names) > 12:
                    kind, name = "remove", rng.choice(names)
                change = [kind, name, fresh if kind in ("replace", "rename", "update") else None]
                print("begin", json.dumps(change), flush=True)
                apply(registry, change)
                print("end", flush=True)
                if kind in ("remove", "rename"):
                    names.remove(name)
                if kind in ("add", "rename"):
                    names.append(fresh)


def state(path: Path, *, reopen_to_write: bool) -> list[Model]:
    """The models in the registry, after comparing its maps and coordinates with the expected ones."""
    with Registry.open(path, write=reopen_to_write) as registry:
        if problems := registry.check():
            raise SystemExit(f"the registry is damaged: {problems}")
        models = []
        rows = registry.models()
        for space in SPACES:
            stored = registry.embeddings(space.space_id)
            for row, expected in zip(stored, coordinates([row.model_id for row in rows]), strict=True):
                if row.model_id != expected.model_id or not np.array_equal(row.vector, expected.vector):
                    raise SystemExit(f"old and new coordinates are mixed at model {row.model_id}")
        for row in rows:
            first = row.card.weights_sha256
            for space in SPACES:
                if list(registry.map_blocks(space.space_id, row.model_id)) != list(blocks(first, space)):
                    raise SystemExit(f"the maps of {row.card.name} are not those that were written")
            models.append((first, row.card.name, row.card.task))
        return models


def loop(path: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill a writer `kills` times; returns the numbers of acknowledged changes and of others that were committed."""
    rng = random.Random(seed)
    Registry.create(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_probe_set(ProbeRow("probes", "probes", "test", {}, N_IMAGES, 8), None)
        for space in SPACES:
            registry.add_space(space, default=False)
    models: list[Model] = []
    finished = survived = 0
    for kill in range(kills):
        command = [sys.executable, __file__, "--write", str(path), "--seed", str(1000 * seed + kill)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        lines: list[str] = []
        for _ in range(rng.randrange(1, 25)):
            lines.append(writer.stdout.readline())
        time.sleep(rng.expovariate(1 / 0.005))
        writer.kill()
        lines += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        pending: list | None = None
        for line in lines:
            word, _, change = line.rstrip("\n").partition(" ")
            if word == "begin" and line.endswith("\n"):
                pending = json.loads(change)
            elif word == "end" and pending is not None:
                models, pending = changed(models, pending), None
                finished += 1
        if not any(lines):
            raise SystemExit("the writer stopped before it was killed")
        actual = state(path, reopen_to_write=bool(kill % 2))
        if actual != models:
            if pending is None or actual != changed(models, pending):
                raise SystemExit(f"kill {kill}: the registry holds {actual}, expected {models} then {pending}")
            models = actual
            survived += 1
    return finished, survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="number of kills")
    parser.add_argument("--full", action="store_true", help="200 kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes and the times of the kills")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write, arguments.seed)
    kills = 200 if arguments.full else arguments.kills
    with tempfile.TemporaryDirectory() as folder:
        try:
            finished, survived = loop(Path(folder) / "registry.duckdb", kills, arguments.seed)
        except ModelspaceError as error:
            raise SystemExit(f"the registry can't be opened or read: {error}") from None
    print(f"{kills} kills, {finished} changes acknowledged and all present, {survived} more committed when killed")


if __name__ == "__main__":
    main()
