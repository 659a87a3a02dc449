"""The verbs that write, as commands on a registry of two models, and what the registry holds before and after.

A command runs in this process (`run`), so that a fork of a process that has imported everything costs little.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelspace.home import REGISTRY
from modelspace.registry import EmbeddingRow, ProbeRow, Registry, schema
from modelspace.representations.maps import MapWriter
from modelspace.types import ModelCard, Preprocessing, SpaceSpec
from modelspace.verbs.verify import verify

SMALL = ("--images", "4", "--canvas", "16")

#: Where homes are made: in memory if possible, since nothing here needs a disk that survives.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

#: The newest schema of the registry that a later version migrates.
OLDER_SCHEMA = 4


#: With two models; for `merge`; of an older schema; empty.
HOMES = ("full", "other", "older", "none")


@dataclass(frozen=True)
class Verb:
    """A command that writes.

    Attributes:
        name: of the verb.
        words: the command's words, without --home; FOLDER stands for the folder that holds the homes.
        states: number of states of the registry that its transactions pass through, the first and last included.
        home: which of the prepared homes it changes.
    """

    name: str
    words: tuple[str, ...]
    states: int = 2
    home: str = "full"


VERBS = (
    Verb("init", ("init", *SMALL, "--method", "saliency"), 3, "none"),
    Verb("add", ("add", "zoo:denoise")),
    Verb("add --manifest", ("add", "--manifest", "FOLDER/models.toml"), 3),
    Verb("remove", ("remove", "curvature")),
    Verb("rename", ("rename", "curvature", "bend")),
    Verb("tag", ("tag", "curvature", "owner=lab", "--task", "bends")),
    Verb("merge", ("merge", "FOLDER/other")),
    Verb("rebuild --coordinates", ("rebuild", "--coordinates"), 4),
    Verb("rebuild --compact", ("rebuild", "--compact")),
    Verb("blend", ("init", "--blend", "gradient_x_input=1,dds=1", "--space", "both")),
    Verb("map", ("map", "--space", "dds", "--refit", "--out", "FOLDER/map.svg")),
    Verb("task add", ("task", "add", "pets")),
    Verb("observe", ("observe", "birds", "curvature", "0.7")),
    Verb("migration", ("tag", "m0", "owner=lab"), len(schema.known()) - OLDER_SCHEMA + 2, "older"),
)

#: The names of the verbs, in the order in which they are reported.
NAMES = tuple(verb.name for verb in VERBS)


def homes_of(chosen: Collection[Verb]) -> tuple[str, ...]:
    """The homes that some verbs need."""
    return tuple(name for name in HOMES if name == "other" or any(verb.home == name for verb in chosen))


def may_write(verb: Verb, number: int) -> bool:
    """Whether to open what a verb left for writing first: every other time, unless that changes it."""
    return number % 2 == 1 and verb.name != "migration"


class Verbs:
    """The verbs on prepared homes.

    Attributes:
        folder: holds the homes `full`, `other`, `older`, `none` and the files that commands read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, homes: Collection[str] = HOMES) -> None:
        """Make the homes that the verbs start from, or only some of them."""
        for name in homes:
            (self.folder / name).mkdir(parents=True)
        if "older" in homes:
            with older_schema(OLDER_SCHEMA):
                _fill(self.folder / "older" / REGISTRY)
        if "full" not in homes:
            return
        spaces = ("--method", "gradient_x_input", "--method", "dds")
        for home, models in (("full", ("curvature", "edge2d")), ("other", ("reshade",))):
            self.require(["init", *SMALL, *spaces], home)
            for model in models:
                self.require(["add", f"zoo:{model}"], home)
        self.require(["map", "--space", "dds", "--out", str(self.folder / "map.svg")], "full")
        self.require(["task", "add", "birds"], "full")
        lines = [f'[[model]]\nuri = "zoo:{name}"\n' for name in ("denoise", "reshade")]
        (self.folder / "models.toml").write_text("\n".join(lines))

    def require(self, words: list[str], home: str) -> None:
        """Run a command that must succeed."""
        if (code := run(words, self.folder / home)) != 0:
            raise SystemExit(f"{' '.join(words)} ended with exit code {code}")

    def words(self, verb: Verb) -> list[str]:
        """The words of a verb's command, with the paths of these homes."""
        return [word.replace("FOLDER", str(self.folder)) for word in verb.words]


@contextmanager
def older_schema(number: int) -> Iterator[None]:
    """Use the migrations up to this number alone."""
    known = schema.known
    schema.known = lambda folder=None: known(folder)[:number]  # type: ignore[assignment]
    try:
        yield
    finally:
        schema.known = known


def _fill(path: Path) -> None:
    """A registry of one model, under the migrations in use."""
    space = SpaceSpec("saliency", "probes", "saliency", 4, 8)
    Registry.create(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_probe_set(ProbeRow("probes", "probes", "test", {}, 4, 8), None)
        registry.add_space(space, default=True)
        model = registry.add_model(ModelCard("m0", "test", "m0", "output", "test", (1,), Preprocessing.raw((8, 8)), 1))
        row = EmbeddingRow(model, 0, np.ones(1), np.zeros(0), 0, 1.0)
        writer = MapWriter(8, 8)
        writer.write(np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32))
        registry.add_embedding(space.space_id, row, writer.close())


def run(words: list[str], home: Path) -> int:
    """Run a command in this process, silently; its exit code."""
    from modelspace.cli.app import app

    outputs = sys.stdout, sys.stderr
    with open(os.devnull, "w") as sink:
        sys.stdout = sys.stderr = sink
        try:
            app([*words, "--home", str(home), "--quiet"])
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        finally:
            sys.stdout, sys.stderr = outputs
    return 0


#: Columns that differ between two runs of a command.
_OF_THE_RUN = frozenset(
    (
        "added_at",
        "applied_at",
        "created_at",
        "epoch",
        "generation",
        "made_at",
        "measured_at",
        "registry_id",
        "seconds",
    )
)

#: Columns of one table that do; an outcome's checksum is also of when it was measured.
_OF_THE_RUN_IN = frozenset([("outcomes", "checksum")])


def digest(home: Path, *, write: bool = False, of_any_run: bool = False) -> str:
    """A hash of all rows of all tables, or "none" if there is no registry.

    Args:
        home: the registry's folder.
        write: open it for writing, which migrates it.
        of_any_run: leave out times and what else differs between two runs of a command.

    Raises:
        ModelspaceError: it can't be opened.
        AssertionError: its checks found a problem.
    """
    if not (home / REGISTRY).exists():
        return "none"
    content = hashlib.sha256()
    with Registry.open(home / REGISTRY, write=write) as registry:
        problems = registry.check()
        assert not problems, f"the tables contradict each other: {problems}"
        tables = registry.rows(
            "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
            " WHERE schema_name = 'main' AND NOT internal AND table_name IN (SELECT table_name FROM duckdb_tables())"
            " GROUP BY 1 ORDER BY 1"
        )
        for table, columns in tables:
            left_out = {column for column in columns if column in _OF_THE_RUN or (table, column) in _OF_THE_RUN_IN}
            same = [f'"{column}"' for column in columns if not (of_any_run and column in left_out)] or ["count(*)"]
            rows = registry.rows(f'SELECT {", ".join(same)} FROM main."{table}" ORDER BY ALL')
            content.update(repr((table, rows)).encode())
    return content.hexdigest()[:16]


def problems_of(home: Path) -> list[str]:
    """What `verify` finds in a registry; nothing where there is none or it is too old."""
    if not (home / REGISTRY).exists():
        return []
    return [f"{check.what}: {check.detail}" for check in verify(home, deep=False, progress=None) if not check.ok]


def left_over(home: Path) -> list[str]:
    """Temporary files, logs and lock files in a home that no process uses."""
    return sorted(
        str(file.relative_to(home))
        for file in home.rglob("*")
        if file.name.endswith((".tmp", ".lock", ".wal", ".undo")) or ".tmp." in file.name
    )


def trouble(home: Path, legal: set[str], *, write: bool, of_any_run: bool) -> str:
    """What is wrong with a home after an interruption; empty if nothing. Makes one more change.

    Args:
        home: the registry's folder.
        legal: digests of the states that it may be in.
        write: open it first for writing, not for reading.
        of_any_run: as in `digest`.
    """
    try:
        kept = digest(home, write=write, of_any_run=of_any_run)
        if kept not in legal:
            return f"it holds {kept}, which is neither a state before nor after ({', '.join(sorted(legal))})"
        if problems := problems_of(home):
            return "; ".join(problems)
        change(home)
        if left := left_over(home):
            return f"left over after the next change: {', '.join(left)}"
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return ""


def change(home: Path) -> None:
    """Make one more change, as the next user would, and look whether it is stored.

    Raises:
        ModelspaceError: it can't be made.
        AssertionError: it was lost, or the checks found a problem after it.
    """
    path = home / REGISTRY
    if not path.exists():
        assert run(["init", *SMALL], home) == 0, "init is refused"
        return
    with Registry.open(path, write=True) as registry, registry.transaction():
        registry.add_probe_set(ProbeRow("later", "later", "test", {}, 4, 8), None)
    with Registry.open(path) as registry:
        assert registry.probe_set("later").n_images == 4, "a change is lost"
        assert registry.check() == [], "the tables contradict each other after a change"
