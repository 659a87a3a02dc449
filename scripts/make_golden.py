"""Write a small registry for the tests of the schema promise: every later version must open it.

    python scripts/make_golden.py                 # tests/registry/golden/VERSION.duckdb, of this version
    python scripts/make_golden.py --schema 6      # tests/registry/golden/schema-6.duckdb, by the first six migrations

A file of a released version is never written again: it shows what that version wrote. Its rows are drawn by
`scripts/torture/small_registry.py`, with fixed ids and times, and a space on stored probe images; tables that a schema
lacks stay out. `tests/registry/test_golden.py` has the answers.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import numpy as np
from PIL import Image

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

import modelspace  # noqa: E402
from modelspace import probes  # noqa: E402
from modelspace.lab.sealing import TIMES, set_outcome_checksums  # noqa: E402
from modelspace.registry import ProbeRow, Registry, schema  # noqa: E402
from modelspace.registry.compaction import rewrite  # noqa: E402
from modelspace.representations import maps  # noqa: E402
from modelspace.spaces import affinity, anchors  # noqa: E402
from modelspace.types import SpaceSpec  # noqa: E402
from scripts.torture import small_registry  # noqa: E402

FOLDER = TOP / "tests" / "registry" / "golden"
MIGRATIONS = TOP / "modelspace" / "registry" / "migrations"

#: DuckDB's smallest block: each column starts one of its own.
BLOCK_SIZE = 1 << 14

#: What cards say since there are columns for it.
CODE: dict[str, Any] = {"code_sha256": "c" * 64, "options": {"stochastic": 3}, "torch": "2.13.0"}

MOMENT = datetime(2026, 1, 1)
REGISTRY_ID = "6f6c6467-656e-4000-8000-000000000000"

#: Two stored probe images, and a space of maps of them.
SIZE = 8
IMAGES = [np.random.default_rng(k).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for k in range(2)]
STORED = ProbeRow(probes.fingerprint(IMAGES, SIZE), "stored", "folder", {"seed": 0}, len(IMAGES), SIZE)
STORED_MAPS = SpaceSpec("stored", STORED.probe_id, "saliency", STORED.n_images or 0, small_registry.SIDE, 4)


def make(path: Path, number: int) -> None:
    """Write a registry to which the first `number` migrations were applied."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(schema, "FOLDER", Path(folder) / "migrations"):
        schema.FOLDER.mkdir()
        for file in sorted(MIGRATIONS.glob("[0-9]*.sql"))[:number]:
            shutil.copy(file, schema.FOLDER)
        home = small_registry.create(
            Path(folder) / "home",
            tasks=number >= schema.CHECKSUMS,
            projected=number >= schema.PROJECTIONS,
            tags={"group": "2D", "paper": 'it\'s "quoted", ünïcode'},
            **(CODE if number >= schema.CODE else {}),
        )
        add_stored_images(home / "registry.duckdb")
        if schema.TASKS <= number < schema.CHECKSUMS:
            add_tasks(home / "registry.duckdb")
        rewrite(home / "registry.duckdb", fixed, settings={"threads": "1"}, block_size=BLOCK_SIZE)
        shutil.copyfile(home / "registry.duckdb", path)


def add_stored_images(path: Path) -> None:
    """Add the probe set whose images are stored, and its space with all models but the last."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_probe_set(STORED, [(f"{k}.png", png(image)) for k, image in enumerate(IMAGES)])
        registry.add_space(STORED_MAPS, default=False)
        for row in registry.models()[:-1]:
            writer = maps.MapWriter(STORED_MAPS.canvas, STORED_MAPS.bits)
            shape = (STORED_MAPS.n_images, STORED_MAPS.canvas, STORED_MAPS.canvas)
            writer.write(np.random.default_rng(row.model_id).normal(size=shape).astype(np.float32))
            affinity.append(registry, STORED_MAPS, row.model_id, {STORED_MAPS.space_id: writer.close()}, {})
        if registry.schema_number >= schema.ANCHORS:
            anchors.choose(registry, STORED_MAPS)


def add_tasks(path: Path) -> None:
    """Add the tasks and outcomes of `small_registry` as modelspace did before outcomes had checksums."""
    with Registry.open(path, write=True) as registry, registry.transaction():
        for name in ("flowers", "birds"):
            registry.execute(
                "INSERT INTO tasks VALUES (nextval('task_ids'), ?, '', '', 'classification', 'accuracy', true, NULL,"
                " [], 0, now())",
                [name],
            )
            registry.execute(
                "INSERT INTO outcomes SELECT nextval('outcome_ids'), task_id, model_id, m.name, weights_sha256, 0.5,"
                " 'observed', '{}', NULL, NULL, NULL, now(), '' FROM tasks t, models m"
                " WHERE t.name = ? AND model_id <= 3 ORDER BY model_id",
                [name],
            )


def png(image: np.ndarray) -> bytes:
    """An image (height, width, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def fixed(duck: duckdb.DuckDBPyConnection) -> None:
    """Fill `target` from `registry`, with a fixed id and fixed times, a second apart."""
    tables = {name for (name,) in duck.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    for table, (column, order) in TIMES.items():
        if table in tables:
            duck.execute(
                f"UPDATE registry.main.{table} t SET {column} = $moment + to_seconds(n) FROM (SELECT rowid AS row,"
                f" row_number() OVER (ORDER BY {order}) AS n FROM registry.main.{table}) WHERE t.rowid = row",
                {"moment": MOMENT},
            )
    if duck.execute(
        "SELECT 1 FROM duckdb_columns() WHERE table_name = 'outcomes' AND column_name = 'checksum'"
    ).fetchone():
        set_outcome_checksums(duck, "registry")
    duck.execute("UPDATE registry.main.meta SET registry_id = ?", [REGISTRY_ID])
    duck.execute("UPDATE registry.main.spaces SET generation = 1000")
    if "anchors" in tables:
        duck.execute("UPDATE registry.main.spaces SET epoch = 100")
    duck.execute("COPY FROM DATABASE registry TO target")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schema", type=int, help="number of migrations; default: all")
    options = parser.parse_args()
    number = options.schema or len(schema.known())
    path = FOLDER / (f"schema-{number}.duckdb" if options.schema else f"{modelspace.__version__}.duckdb")
    FOLDER.mkdir(exist_ok=True)
    make(path, number)
    print(f"{path.relative_to(TOP)}: schema {number}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
