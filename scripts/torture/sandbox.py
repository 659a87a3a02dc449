"""Try to get out of the sandbox in which users' SQL runs: by SQL and by a condition.

Each attempt tries to read a file, to write one, to attach a database, to load an extension, to change a setting or the
registry, or to take memory and time without end in a single function call. Most are drawn from DuckDB's own lists of
settings, pragmas and functions, so that a later DuckDB is tried with what it adds. Refused is the rule; an answer is
fine if it gives nothing away. Wrong is: a line of the secret file in an answer or a message, any file changed or made,
a setting or an extension that stays, more memory or time than is allowed, an exception that is not a ModelspaceError.

    python scripts/torture/sandbox.py          # every eighth attempt
    python scripts/torture/sandbox.py --full   # all
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from modelspace.errors import ModelspaceError
from modelspace.registry import Registry, sandbox, sql

SECRET = "a-secret-line"

#: Seconds that an attempt may take, and the seconds after which it must have been ended even on a busy machine.
TIMEOUT_S, LONGEST_S = 1.0, 10.0

#: DuckDB's memory in these attempts, and what its process may have taken at most.
MEMORY_BYTES = 50_000_000
MOST_BYTES = MEMORY_BYTES + (1 << 30) + (200 << 20)

STATEMENTS = (
    "COPY models TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "COPY models FROM '{folder}/secret.csv'",
    "COPY FROM DATABASE registry TO memory",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.duckdb' AS other",
    "ATTACH '{folder}/secret.csv' AS other (READ_ONLY)",
    "ATTACH ':memory:' AS other",
    "ATTACH 'https://example.com/x.duckdb' AS other",
    "ATTACH 'sqlite:{folder}/x.db' AS other (TYPE sqlite)",
    "DETACH registry",
    "INSTALL httpfs",
    "FORCE INSTALL json FROM community",
    "UPDATE EXTENSIONS",
    "LOAD httpfs",
    "LOAD '{folder}/secret.csv'",
    "SET VARIABLE x = 1",
    "SET SESSION threads = 1",
    "SET GLOBAL threads = 1",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "CALL pragma_version()",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE TEMP TABLE mine (a INTEGER)",
    "CREATE TEMP VIEW mine AS FROM models",
    "CREATE OR REPLACE VIEW catalog AS SELECT 1",
    "CREATE MACRO mine() AS 1",
    "CREATE TEMP MACRO mine() AS 1",
    "CREATE OR REPLACE MACRO affinity(a, b) AS 1",
    "CREATE SECRET (TYPE s3)",
    "CREATE PERSISTENT SECRET mine (TYPE s3)",
    "CREATE SCHEMA mine",
    "CREATE TYPE mine AS ENUM ('a')",
    "CREATE SEQUENCE mine",
    "CREATE INDEX mine ON models (name)",
    "INSERT INTO models (name) VALUES ('mine')",
    "INSERT OR REPLACE INTO meta VALUES (uuid(), now()::TIMESTAMP)",
    "MERGE INTO models USING models m ON m.name = models.name WHEN MATCHED THEN DELETE",
    "UPDATE models SET name = 'mine'",
    "DELETE FROM models",
    "WITH x AS (DELETE FROM models RETURNING name) FROM x",
    "WITH x AS (INSERT INTO meta VALUES (uuid(), now()::TIMESTAMP) RETURNING *) FROM x",
    "DROP TABLE models",
    "DROP MACRO affinity",
    "ALTER TABLE models RENAME TO mine",
    "ALTER DATABASE registry RENAME TO mine",
    "TRUNCATE models",
    "COMMENT ON TABLE models IS 'mine'",
    "SELECT nextval('model_ids')",
    "BEGIN",
    "BEGIN TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE x",
    "USE memory",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE INSERT INTO models (name) VALUES ('mine')",
    "SELECT 1; DROP TABLE models",
    "SELECT 1; SET memory_limit = '100GB'; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'; SELECT 2",
    "FROM '{folder}/secret.csv'",
    "FROM '{folder}/*.csv'",
    "FROM 'file://{folder}/secret.csv'",
    'FROM "{folder}/secret.csv"',
    "FROM 'https://example.com/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "FROM query('FROM ''{folder}/secret.csv''')",
    "FROM query('COPY (SELECT 1) TO ''{folder}/out.csv''')",
    "FROM query_table('{folder}/secret.csv')",
    "FROM query_table(['{folder}/secret.csv'])",
    "FROM glob('{folder}/*')",
    "FROM read_csv(['{folder}/secret.csv', '{folder}/secret.csv'])",
    "FROM read_csv('{folder}/secret.csv', store_rejects = true)",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('/proc/self/fd/0')",
    "FROM read_blob('/dev/stdin')",
    "SELECT content FROM read_text('{folder}/' || 'secret.csv')",
    "SELECT getenv('HOME')",
    "SELECT getvariable('x')",
    "SELECT * FROM duckdb_secrets(redact = false)",
    "SELECT current_setting('home_directory')",
    "SELECT write_log('mine')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{folder}/secret.csv'')'))",
    "FROM pandas_scan(1)",
    "FROM pandas_scan(140000000000000)",
    "FROM arrow_scan(1, 2, 3)",
    "FROM arrow_scan_dumb(1, 2, 3)",
    "FROM python_map_function(1)",
    "FROM SECRET",
    "FROM sandbox",
    "FROM globals",
    "SELECT * FROM (DESCRIBE FROM read_csv('{folder}/secret.csv'))",
    "SUMMARIZE FROM read_csv('{folder}/secret.csv')",
    "PIVOT read_csv('{folder}/secret.csv') ON a USING count(*)",
    "SELECT (SELECT content FROM read_text('{folder}/secret.csv'))",
    "SELECT list(c) FROM (SELECT unnest([1])) t(c) POSITIONAL JOIN read_csv('{folder}/secret.csv')",
    "SELECT 'x' COLLATE '../../x'",
    "SELECT CAST('{folder}/secret.csv' AS mine)",
)

#: Memory and time without end in one call, one list, one row or one recursion.
GREEDY = (
    "SELECT length(repeat('x', 4000000000))",
    "SELECT length(repeat(repeat('x', 60000), 60000))",
    "SELECT len(range(500000000))",
    "SELECT len(generate_series(1, 500000000))",
    "SELECT length(lpad('x', 1500000000, 'y'))",
    "SELECT length(rpad('x', 1500000000, 'y'))",
    "SELECT length(bar(1, 0, 1, 1000000000))",
    "SELECT len(list_resize([1], 900000000))",
    "SELECT NULL::INTEGER[100000][100000]",
    "SELECT list(range) FROM range(1000000000)",
    "SELECT string_agg(range::VARCHAR, ',') FROM range(1000000000)",
    "SELECT bitstring('1', 2000000000)",
    "SELECT histogram(range) FROM range(1000000000)",
    "SELECT sleep_ms(60000)",
    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
    "FROM range(1000000000000)",
    "FROM repeat('x', 1000000000000)",
    "FROM repeat_row('x', num_rows = 1000000000000)",
    "SELECT list_reduce(range(100000000), lambda a, b: a + b)",
    "SELECT len(list_transform(range(100000000), lambda x: repeat('x', 1000)))",
    "SELECT regexp_matches(repeat('a', 30000000), '(a*)*b')",
    "SELECT regexp_replace(repeat('a', 30000000), 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'g')",
    "SELECT replace(repeat('a', 30000000), 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb')",
    "SELECT levenshtein(repeat('a', 3000000), repeat('b', 3000000))",
    "SELECT damerau_levenshtein(repeat('a', 30000), repeat('b', 30000))",
    "SELECT jaccard(repeat('ab', 3000000), repeat('b', 30000000))",
    "SELECT to_json(range(100000000))",
    "SELECT json(repeat('[', 10000000))",
    "SELECT repeat('[', 10000000)::INTEGER[]",
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
    "WITH RECURSIVE t(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM t) SELECT max(length(x)) FROM t",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT " + "-" * 1 + " -" * 5000 + "1",
    "SELECT 1" + " + 1" * 20000,
    "SELECT 1" + " UNION SELECT 1" * 3000,
    "SELECT " + ", ".join(f"{i} AS c{i}" for i in range(20000)),
    "SELECT * FROM " + ", ".join(["models"] * 40),
    "SELECT unnest(range(1000000000))",
    "SELECT md5(repeat('x', 900000000))",
    "SELECT printf('%1000000000d', 1)",
    "SELECT format('{:1000000000d}', 1)",
    "SELECT to_base64(repeat('x', 900000000)::BLOB)",
    "SELECT encode(repeat('x', 900000000))",
    "SELECT factorial(1000000)",
    "SELECT 10::HUGEINT ** 1000000000",
    "FROM test_all_types()",
)


@dataclass(frozen=True)
class Attempt:
    """One attempt.

    Attributes:
        text: the SQL, or the condition.
        is_condition: whether it is given as a condition on the models.
        aim: "read", "write" or "exhaust", or "setting".
    """

    text: str
    is_condition: bool
    aim: str


#: Ways to put a query into a condition.
FORMS = ("{}", "true); {}; SELECT (1", "model_id IN ({})", "true) UNION ALL ({}", "EXISTS ({})", "({}) IS NULL")


def attempts(folder: Path) -> list[Attempt]:
    """All attempts; `folder` has the file secret.csv."""
    out: list[Attempt] = []

    def add(text: str, aim: str, *forms: str) -> None:
        text = text.replace("{folder}", str(folder))
        out.append(Attempt(text, False, aim))
        out.extend(Attempt(form.replace("{}", text), True, aim) for form in forms)

    for text in STATEMENTS:
        add(text, "write" if "out" in text else "read", *FORMS[:4])
    for text in GREEDY:
        add(text, "exhaust", FORMS[2], FORMS[5])
    with duckdb.connect() as duck:
        for (name,) in duck.execute("SELECT name FROM duckdb_settings() ORDER BY 1").fetchall():
            add(f"SET {name} = '{folder}/out'", "setting")
            add(f"RESET {name}", "setting")
            add(f"PRAGMA {name} = 'out'", "setting")
        functions = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = ? ORDER BY 1"
        for (name,) in duck.execute(functions, ["pragma"]).fetchall():
            add(f"PRAGMA {name}", "setting")
            add(f"PRAGMA {name}('{folder}/out')", "setting")
        for (name,) in duck.execute(functions, ["table"]).fetchall():
            for arguments in ("", "'{folder}/secret.csv'", "1", "'models'"):
                add(f"FROM {name}({arguments})", "read", FORMS[4])
        add_calls(duck, lambda text: add(text, "exhaust"))
    return out


#: Arguments that make a function large.
LARGE = ("repeat('x', 200000)", "'{folder}/secret.csv'", "900000000", "1e300", "range(200000)", "-9223372036854775808")


def add_calls(duck: duckdb.DuckDBPyConnection, add: Callable[[str], None]) -> None:
    """Calls of every scalar function, with large arguments in every place."""
    rows = duck.execute(
        "SELECT DISTINCT function_name, len(parameters) FROM duckdb_functions()"
        " WHERE function_type = 'scalar' AND regexp_full_match(function_name, '[a-z_0-9]+') ORDER BY 1, 2"
    ).fetchall()
    for name, arity in rows:
        for i in range(len(LARGE) if arity else 0):
            values = [LARGE[(i + k) % len(LARGE)] for k in range(arity)]
            add(f"SELECT length(({name}({', '.join(values)}))::VARCHAR)")


def state(folder: Path) -> dict[str, str]:
    """The files under a folder, with a hash of their content."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "folder"
        for file in sorted(folder.rglob("*"))
    }


def make(folder: Path) -> Path:
    """A registry with a few rows and a secret next to it; returns the registry's path."""
    path = folder / "registry.duckdb"
    Registry.create(path)
    (folder / "secret.csv").write_text(f"{SECRET}\n")
    (folder / "home").mkdir()
    return path


def peak_bytes() -> int:
    """The largest resident memory of the processes that have ended."""
    return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def ask(path: Path, attempt: Attempt) -> tuple[str, str]:
    """("refused" or "answered", what came back)."""
    try:
        if attempt.is_condition:
            with Registry.open(path) as registry:
                return "answered", repr(registry.models(attempt.text))
        return "answered", repr(sql.query(path, attempt.text, timeout_s=TIMEOUT_S, max_rows=1000).rows)
    except ModelspaceError as error:
        return "refused", str(error)


def faults(path: Path, chosen: list[Attempt], counts: Counter[str]) -> Iterator[str]:
    """Run the attempts; yield what went wrong, and count what happened."""
    folder = path.parent
    before, earlier = state(folder), peak_bytes()  # of other children of this process, such as those of other tests
    settings = sql.query(path, "FROM duckdb_settings() ORDER BY name").rows
    for attempt in chosen:
        start = time.monotonic()
        try:
            kind, text = ask(path, attempt)
        except Exception as error:  # anything but a ModelspaceError is a fault
            kind, text = "failed", f"{type(error).__name__}: {error}"
            yield f"{attempt}: {text}"
        seconds = time.monotonic() - start
        counts[kind] += 1
        counts["longest ms"] = max(counts["longest ms"], int(1000 * seconds))
        if SECRET in text:
            yield f"{attempt}: the secret came out: {text[:200]}"
        if kind == "answered" and attempt.aim in ("write", "setting") and not attempt.text.startswith("PRAGMA"):
            yield f"{attempt}: accepted: {text[:200]}"
        if seconds > LONGEST_S:
            yield f"{attempt}: {seconds:.1f} s"
        if peak_bytes() > max(MOST_BYTES, earlier):  # of a process that was ended, such as by this attempt
            yield f"{attempt}: {peak_bytes() >> 20} MB"
        if (after := state(folder)) != before:
            yield f"{attempt}: files changed: {sorted(set(after.items()) ^ set(before.items()))[:4]}"
            before = after
    if sql.query(path, "FROM duckdb_settings() ORDER BY name").rows != settings:
        yield "a setting stayed changed"
    sandbox.end_idle()
    counts["peak MB"] = peak_bytes() >> 20


def run(every: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Run every n-th attempt, from the seed-th on; returns counts and faults."""
    counts: Counter[str] = Counter()
    home, old = os.environ.get("HOME"), (sandbox.MEMORY_BYTES, sql.CONDITION_S)
    with tempfile.TemporaryDirectory() as name:
        path = make(Path(name).resolve())
        # Extensions and secrets would be stored there.
        os.environ["HOME"] = str(path.parent / "home")
        sandbox.MEMORY_BYTES, sql.CONDITION_S = MEMORY_BYTES, TIMEOUT_S
        try:
            sandbox.end_idle()
            chosen = attempts(path.parent)[seed % every :: every]
            counts["attempts"] = len(chosen)
            problems = list(faults(path, chosen, counts))
        finally:
            sandbox.MEMORY_BYTES, sql.CONDITION_S = old
            sandbox.end_idle()
            if home is not None:
                os.environ["HOME"] = home
    return counts, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=8, help="run every n-th attempt")
    parser.add_argument("--full", action="store_true", help="run all")
    parser.add_argument("--seed", type=int, default=0, help="the first attempt")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    start = time.monotonic()
    counts, problems = run(1 if arguments.full else arguments.every, arguments.seed)
    for fault in problems:
        print(fault, file=sys.stderr)
    figures = {
        "attempts": counts["attempts"],
        "refused": counts["refused"],
        "answered, giving nothing away": counts["answered"],
        "faults": len(problems),
        "longest, seconds": counts["longest ms"] / 1000,
        "largest process, MB": counts["peak MB"],
    }
    if arguments.out:
        arguments.out.write_text(json.dumps({"figures": figures, "seconds": time.monotonic() - start}))
    print("SQL sandbox: " + ", ".join(f"{label} {value}" for label, value in figures.items()))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
