"""Foreign registries: what another program may have put into the file, given to every command.

Each case is a registry that honest commands made and that SQL then changed: views, macros and triggers in place of
ours, other types of columns, missing tables, vectors and maps of wrong lengths, NaN, nonsense in JSON, newer schemas.
Every command must answer, or refuse in one sentence (never exit code 70), write nothing outside its folders, and end in
time. Where the change is in the schema and not in the rows, an answer must be the one of the honest registry.

    python scripts/torture/foreign.py [--cases N] [--full] [--seed S] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from torture import commands, small_registry  # noqa: E402

#: Seconds for one command.
SECONDS = 20.0

#: Commands that read: name -> words; {out} is a new folder.
READING = {
    "list": "list",
    "show": "show curvature",
    "list json": "list --format json",
    "nearest": "nearest curvature --format json",
    "nearest paper": "nearest curvature --space paper --format json",
    "spaces": "spaces",
    "probes": "probes list",
    "outcomes": "outcomes --format csv",
    "suggest": "suggest flowers",
    "evaluate": "evaluate",
    "export": "export {out}",
    "export maps": "export {out} --what maps --space paper",
    "atlas": "atlas --out {out}/atlas.html",
    "tree": "tree --format json",
    "heatmap": "heatmap --format csv",
    "verify": "verify --deep",
    "sql": "sql {FROM_nearest}",
    "sql affinity": "sql {affinity}",
}
#: Commands that change the registry, each on a copy of it.
WRITING = {
    "rename": "rename curvature renamed",
    "tag": "tag curvature --tag a=b",
    "remove": "remove curvature",
    "observe": "observe flowers curvature 0.5",
    "task": "task remove flowers",
    "rebuild": "rebuild --coordinates",
}
QUERIES = {
    "{FROM_nearest}": "SELECT name, round(affinity, 6) AS affinity FROM nearest('curvature', 3)",
    "{affinity}": "SELECT round(affinity('curvature', 'denoise'), 6) AS a, isfinite(1.0::DOUBLE) AS f",
}


@dataclass(frozen=True)
class Case:
    """A change of a registry.

    Attributes:
        name: what it is.
        statements: SQL that makes it.
        same: whether an answer must be that of the honest registry, since no row differs.
        with_ids: whether spaces get the ids of their changed definitions, so that they keep their models.
    """

    name: str
    statements: tuple[str, ...]
    same: bool = False
    with_ids: bool = False


#: JSON that is not what a column should hold.
_NONSENSE = ("", "{", "[]", "null", "1", '"x"', "[" * 5000 + "]" * 5000, '{"a": NaN}', '{"input_size": "x"}', "{}")

#: Built-in functions that our SQL uses.
_FUNCTIONS = ("count(x)", "isfinite(x)", "len(x)", "list_inner_product(a, b)", "list(x)", "max(x)", "min(x)", "sum(x)")


def _schemas() -> list[Case]:
    """Changes of the schema that leave all rows as they are."""
    cases = []
    for table in ("models", "spaces", "embeddings", "maps", "tasks", "probe_sets", "meta", "migrations", "outcomes"):
        cases += [
            Case(f"{table} is a view", _view(table, f"SELECT * FROM real_{table}"), same=True),
            Case(f"{table} is missing", (f"DROP TABLE {table}",)),
        ]
    effects = "SELECT * FROM real_models WHERE nextval('model_ids') > 0"
    cases += [
        Case("a view that counts up", _view("models", effects), same=True),
        Case("an endless view", _view("models", "SELECT m.* FROM real_models m, range(1000000000000) r")),
        *(
            Case(f"a macro {name}", (f"CREATE MACRO {name} AS 42",), same=True)
            for name in (*_FUNCTIONS, "bool_and(x)", "any_value(x)", "list_aggregate(a, b)", "uuid()", "nextval(x)")
        ),
        Case(
            "a macro duckdb_tables",
            ("CREATE MACRO duckdb_tables() AS TABLE SELECT 'x' AS table_name, false AS internal",),
            same=True,
        ),
        Case(
            "another nearest",
            (
                "CREATE OR REPLACE MACRO nearest(name, k := 10) AS TABLE"
                " SELECT 1 AS rank, 'evil' AS name, 1.0 AS affinity, 0.0 AS distance, 'x' AS task",
            ),
            same=True,
        ),
        Case("another affinity", ("CREATE OR REPLACE MACRO affinity(a, b) AS 42",), same=True),
        Case("another catalog", ("CREATE OR REPLACE VIEW catalog AS SELECT 'evil' AS name",), same=True),
        Case("a schema of its own", ("CREATE SCHEMA evil; CREATE TABLE evil.models AS FROM models",), same=True),
        Case("another table", ("CREATE TABLE evil (a INTEGER); INSERT INTO evil VALUES (1)",), same=True),
        Case("another column", ("ALTER TABLE models ADD COLUMN evil VARCHAR DEFAULT 'x'",), same=True),
        Case("an index", ("CREATE UNIQUE INDEX evil ON models (name)",), same=True),
        Case("a newer schema", ("INSERT INTO migrations VALUES (99, 'later', 'x', now()::TIMESTAMP)",), same=True),
        Case("another migration", ("UPDATE migrations SET sha256 = 'x' WHERE number = 2",), same=True),
        Case("no migrations", ("DELETE FROM migrations",), same=True),
        Case("no meta", ("DELETE FROM meta",)),
        Case("two metas", ("INSERT INTO meta SELECT uuid(), created_at FROM meta",)),
    ]
    for event, table in (("INSERT", "outcomes"), ("UPDATE", "models"), ("DELETE", "models")):
        trigger = f"CREATE TRIGGER evil AFTER {event} ON {table} FOR EACH ROW DELETE FROM maps"
        cases.append(Case(f"a trigger on {event}", (trigger,), same=True))
    return cases


def _view(table: str, query: str) -> tuple[str, ...]:
    return (f"ALTER TABLE {table} RENAME TO real_{table}", f"CREATE VIEW {table} AS {query}")


def _columns(home: Path) -> list[Case]:
    """Every column dropped, of another type, and NULL."""
    with duckdb.connect(home / "registry.duckdb", read_only=True) as duck:
        rows = duck.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() c WHERE NOT internal AND table_name IN"
            " (SELECT table_name FROM duckdb_tables()) ORDER BY ALL"
        ).fetchall()
    cases = []
    for table, column, kind in rows:
        name = f"{table}.{column}"
        other = "INTEGER" if kind == "VARCHAR" else "VARCHAR"
        cast = f"length({column}::VARCHAR)::INTEGER" if other == "INTEGER" else f"{column}::VARCHAR"
        quoted = f'"{column}"'
        free = f"ALTER TABLE {table} ALTER COLUMN {quoted} DROP NOT NULL"
        cases += [
            Case(f"{name} is missing", (f"ALTER TABLE {table} DROP COLUMN {quoted}",)),
            Case(f"{name} is {other}", (f"ALTER TABLE {table} ALTER COLUMN {quoted} TYPE {other} USING {cast}",)),
            Case(f"{name} is NULL", (free, f"UPDATE {table} SET {quoted} = NULL")),
        ]
    return cases


def _values() -> list[Case]:
    """Rows that no command writes."""
    changes = {
        "embeddings": (
            *("vector = []", "vector = [0.0]", "vector = ['NaN'::DOUBLE]", "vector = ['inf'::DOUBLE]"),
            *("vector = vector || [0.5, 0.5]", "vector = [NULL]", "vector = list_transform(vector, x -> x * 1e300)"),
            *("affinities = []", "affinities = ['NaN'::DOUBLE]", "affinities = affinities || [2.0]"),
            *("affinities = [NULL]", "affinities = [1e308, -1e308]", "axis = 1000000", "axis = -5", "axis = 0"),
            *("position = 0", "position = -position", "position = 2147483647", "model_id = 1", "model_id = -model_id"),
            *("model_id = 9223372036854775807", "residual = 'NaN'", "residual = 'inf'", "space_id = 'x'"),
        ),
        "maps": (
            *("codes = ''::BLOB", "scales = ''::BLOB", "codes = codes || codes", "scales = scales || scales"),
            *(r"scales = '\xFF\xFF\xFF\x7F'::BLOB", "n_images = 2147483647", "n_images = 0", "n_images = -1"),
            *("first_image = -1", "first_image = 2147483640", "first_image = 0", "part = 0", "part = -1"),
            *("model_id = 99", "space_id = 'x'", r"scales = unhex(repeat('FF', octet_length(scales)::INTEGER))"),
        ),
        "models": (
            *("name = 'curvature'", "name = ''", "name = '../' || name", "name = repeat(name, 999)", "model_id = 1"),
            *(
                "model_id = -model_id",
                "model_id = model_id + 9000000000000000000",
                "parameters = -1",
                "seconds = 'NaN'",
            ),
            *("seconds = 'inf'", "output_shape = []", "output_shape = [NULL]", "output_shape = [-1, 0]"),
            *("tags = map()", "tags = map(['a'], [NULL])", "added_at = 'infinity'", "added_at = '-infinity'"),
            *("added_at = '290000-01-01'", "identity = ''", "weights_sha256 = ''", "input_height = -1", "uri = ''"),
            "task = 'curvature'",
        ),
        "spaces": (
            *("name = 'saliency'", "probe_id = 'x'", "method = 'evil'", "method = 'blend'", "method = 'dds'"),
            *("scalar = 'evil'", "canvas = 0", "canvas = -1", "canvas = 2147483647", "n_images = 2147483647"),
            *("n_images = 0", "n_images = 1", "bits = 7", "bits = 32", "bits = 4", "version = 99", "space_id = 'x'"),
            *("space_id = '{blend}'", "generation = -1", "is_default = true", "is_default = false"),
            *("created_at = 'infinity'", """parameters = '{"members": {"{blend}": 1.0}}'"""),
            *("""parameters = '{"members": {"x": NaN}}'""", """parameters = '{"members": {}}'"""),
            *("""parameters = '{"members": [1]}'""", """parameters = '{"members": {"{member}": "x"}}'"""),
            *("""parameters = '{"hubs": "../x", "rerank": []}'""", """parameters = '{"epsilon": "x"}'"""),
            *("""parameters = '{"layout": "evil"}'""",),
            """name = 'aaaaaaaaaaaaaaaa', parameters = '{"members": {"aaaaaaaaaaaaaaaa": 1.0}}'""",
        ),
        "probe_sets": (
            *("kind = 'evil'", "kind = 'folder'", "size = 0", "size = -1", "size = 2147483647", "n_images = -1"),
            *("n_images = 1", "name = '../x'", "probe_id = 'x'", """spec = '{"kind": "rooms", "seed": "../../x"}'"""),
            *("""spec = '{"kind": "rooms", "seed": 1e999, "renderer": 1, "size": 64}'""",),
        ),
        "projections": ("seed = -1", "made_at = 'infinity'", "space_id = 'x'"),
        "projection_points": ("x = 'NaN'", "y = 'inf'", "model_id = 1", "model_id = -1", "x = 1e308", "placed = true"),
        "tasks": (
            *("kind = 'evil'", "metric = 'evil'", "classes = [NULL]", "n_images = -1", "data_sha256 = '../../..'"),
            *("seed = -1", "location = '/dev/zero'", "name = '../x'", "added_at = 'infinity'", "task_id = -1"),
            "data_sha256 = '/'",
        ),
        "outcomes": (
            *("score = 'NaN'", "score = 'inf'", "score = 1e308", "score = NULL", "how = 'evil'", "n_train = -1"),
            *("seconds = 'NaN'", "measured_at = 'infinity'", "note = repeat('x', 100000)", "model = ''"),
            *("model_id = 99", "task_id = 99", "weights_sha256 = ''", "outcome_id = 1", "model_id = NULL"),
        ),
    }
    cases = [
        Case(f"{table}: {change}", (f"UPDATE {table} SET {change}{where}",))
        for table, several in changes.items()
        for change in several
        for where in ("", _LATER[table])
        if where is not None
    ]
    cases += [
        Case(f"{case.name}, with its id", case.statements, with_ids=True)
        for case in cases
        if case.name.startswith("spaces: ") and "space_id" not in case.name
    ]
    for table, column in _TEXTS:
        cases += [Case(f"{table}.{column} = {text[:20]!r}", (_update(table, column, text),)) for text in _NONSENSE]
    for table in changes:
        cases.append(Case(f"{table} twice", (f"INSERT INTO {table} FROM {table}",)))
        cases.append(Case(f"{table} empty", (f"DELETE FROM {table}",)))
    return cases


#: Table -> the condition of its later rows, so that earlier ones stay honest; None where there is only one row.
_LATER: dict[str, str | None] = {
    "embeddings": " WHERE model_id > 2",
    "maps": " WHERE model_id > 2",
    "models": " WHERE model_id > 2",
    "spaces": " WHERE method <> 'blend'",
    "probe_sets": None,
    "projections": None,
    "projection_points": " WHERE model_id > 2",
    "tasks": None,
    "outcomes": " WHERE outcome_id > 2",
}

#: Columns that hold JSON.
_TEXTS = (
    ("models", "preprocessing"),
    ("models", "options"),
    ("spaces", "parameters"),
    ("probe_sets", "spec"),
    ("projections", "parameters"),
    ("outcomes", "settings"),
)


def _update(table: str, column: str, text: str) -> str:
    return f"UPDATE {table} SET {column} = '{text}'"


def command(home: Path, words: str, out: Path) -> commands.Answer:
    """Run one command on a registry."""
    out.mkdir(parents=True, exist_ok=True)
    texts = [QUERIES.get(word, word).replace("{out}", str(out)) for word in words.split()]
    with contextlib.chdir(out):  # where some commands write by default
        return commands.run([*texts, "--home", str(home)], SECONDS)


def cases(home: Path) -> list[Case]:
    """All cases."""
    return [*_schemas(), *_columns(home), *_values()]


def verbs_for(case: Case, rng: random.Random) -> list[str]:
    """The commands for a case: all where the schema is foreign, else the main ones and a few others at random."""
    every = [*READING, *WRITING, "merge", "merge all"]
    if case.same:
        return every
    main_ones = ["list", "nearest", "verify", "merge all"]
    return main_ones + rng.sample([name for name in every if name not in main_ones], 6)


class Trial:
    """Cases tried on copies of a registry.

    Attributes:
        failures: what went wrong, each with the case and the command.
        answered, refused: number of commands that answered, and that were refused in a sentence.
        possible: number of cases; some are refused by DuckDB itself.
        slowest: seconds of the slowest command, and what it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = small_registry.create(folder / "base")
        self.receiver = small_registry.create(folder / "receiver", small_registry.NAMES[:2], tasks=False)
        self.expected = {name: self._read(self.base, name) for name in READING}
        self.failures: list[str] = []
        self.answered, self.refused, self.possible = 0, 0, 0
        self.slowest = (0.0, "")
        # Somebody who writes a registry by hand leaves the checksums out, which would stop most cases at the door.
        with duckdb.connect(self.base / "registry.duckdb") as duck:
            duck.execute("UPDATE embeddings SET vector_checksum = NULL, affinities_checksum = NULL")
            duck.execute("UPDATE maps SET checksum = NULL")
            duck.execute("UPDATE outcomes SET checksum = NULL")
        (folder / "sentinel").write_text("not part of any registry")

    def try_case(self, case: Case, verbs: Sequence[str]) -> None:
        """Give a changed registry to commands."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.base, home)
        try:
            with duckdb.connect(home / "registry.duckdb") as duck:
                before_change = small_registry.ids(duck)
                ids = dict(duck.execute("SELECT name, space_id FROM spaces").fetchall())
                for statement in case.statements:
                    text = statement.replace("{blend}", ids["transfer"]).replace("{member}", ids["dds"])
                    duck.execute(text)
                if case.with_ids:
                    small_registry.give_ids(duck, before_change)
        except duckdb.Error:
            return  # DuckDB does not let anybody make such a file
        self.possible += 1
        before = commands.files(self.folder)
        for name in verbs:
            self._note(case, name, self._answer(home, name), before)

    def _answer(self, home: Path, name: str) -> commands.Answer:
        if name in READING:
            return self._read(home, name)
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        if name in WRITING:
            shutil.copytree(home, work)
            return command(work, WRITING[name], self.folder / "out")
        shutil.copytree(self.receiver, work)
        spaces = " --spaces all" if name == "merge all" else ""
        answer = command(work, f"merge {home}{spaces} --on-conflict skip", self.folder / "out")
        after = command(work, "verify --deep", self.folder / "out")
        if after.code and answer.code == 0 and b"added" in answer.output:
            text = after.output.decode()[-300:] + after.errors[-200:]
            self.failures.append(f"what {name} imported does not pass verify: {text}")
        return answer

    def _read(self, home: Path, name: str) -> commands.Answer:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        return command(home, READING[name], out)

    def _note(self, case: Case, name: str, answer: commands.Answer, before: dict[str, tuple[int, int]]) -> None:
        self.answered += answer.code == 0
        self.refused += answer.refused
        self.slowest = max(self.slowest, (answer.seconds, f"{name} on {case.name}"))
        faults = answer.faults()
        outside = commands.changed_outside(
            before, self.folder, ("out/", "work/", "home/index/", "home/registry.duckdb")
        )
        if outside:
            faults.append(f"files outside were changed: {outside[:5]}")
        if b"NaN" in answer.output and name in ("nearest", "list json", "tree"):
            faults.append("NaN in JSON")
        if case.same and name in _COMPARED and answer.code == 0 and answer.output != self.expected[name].output:
            faults.append(f"another answer: {answer.output[:300]!r}")
        self.failures += [f"{case.name!r}, {name}: {fault}" for fault in faults]


#: Commands whose output is the same at every run.
_COMPARED = ("list", "list json", "show", "nearest", "nearest paper", "tree", "heatmap", "sql", "sql affinity")


def figures(trial: Trial) -> dict[str, float | str]:
    """What was tried and what came of it."""
    return {
        "foreign registries": trial.possible,
        "commands run on them": trial.answered + trial.refused,
        "commands that answered": trial.answered,
        "commands refused in a sentence": trial.refused,
        "failures": len(trial.failures),
        "slowest command, s": round(trial.slowest[0], 1),
    }


def main() -> int:
    """Run the program; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=12, help="number of cases, drawn at random")
    parser.add_argument("--full", action="store_true", help="all cases")
    parser.add_argument("--only", help="only cases whose name matches this regular expression")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures; a rerun goes on where it ended")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELSPACE_CACHE"] = str(Path(folder) / "cache")
        trial = Trial(Path(folder) / "tried")
        chosen = cases(trial.base)
        if options.only:
            chosen = [case for case in chosen if re.search(options.only, case.name)]
        elif not options.full:
            chosen = random.Random(options.seed).sample(chosen, min(options.cases, len(chosen)))
        for case in chosen:
            count = len(trial.failures)
            trial.try_case(case, verbs_for(case, random.Random(f"{options.seed} {case.name}")))
            for failure in trial.failures[count:]:
                print(failure, flush=True)
    report = figures(trial)
    if options.out:
        content = {"figures": report, "seconds": round(time.monotonic() - start, 1)}
        options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print("; ".join(f"{label}: {value}" for label, value in report.items()) + f" ({trial.slowest[1]})")
    return int(bool(trial.failures))


if __name__ == "__main__":
    sys.exit(main())
