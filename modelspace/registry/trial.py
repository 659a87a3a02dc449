"""Reading a file that may be damaged in a process of its own first, so that a crash of DuckDB is not ours.

DuckDB reports most damage as an error. But blocks whose checksums hold and whose contents do not may lead it to end the
process. A file is suspect when it is to be repaired or put back, and after a writer of it was interrupted.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from modelspace.errors import DamagedError
from modelspace.registry import backups
from modelspace.registry.settings import LOCK, LOCKED_DOWN

#: Reads every value of every table, and prints the number of tables.
_PROGRAM = """
import json, sys, duckdb
file, settings, lock = json.loads(sys.argv[1])
duck = duckdb.connect(file, read_only=True, config=settings)
duck.execute(lock)
tables = duck.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND NOT internal").fetchall()
for (table,) in tables:
    name = table.replace('"', '""')
    duck.execute(f'SELECT sum(hash(row)) FROM main."{name}" AS row').fetchall()
print(len(tables))
"""

#: Signals by which a program ends that meets what it does not expect; one that is killed says nothing about the file.
_CRASHES = {
    getattr(signal, name) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV") if hasattr(signal, name)
}


def read(path: Path, owner: Path | None = None) -> None:
    """Read all of a registry file in another process. Errors there are left to the caller, who meets them again.

    Args:
        path: the file; no process writes to it.
        owner: the registry whose backups the error names, by default the file itself.

    Raises:
        DamagedError: the process crashed.
    """
    command = [sys.executable, "-Ic", _PROGRAM, json.dumps([str(path), LOCKED_DOWN, LOCK])]
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
    except OSError:  # there is no memory, or no descriptor, for a process: that says nothing about the file
        return
    if -status in _CRASHES:
        cause = signal.Signals(-status).name
        raise DamagedError(
            f"{path} is damaged: DuckDB crashed while it read the file ({cause})", backups.advice(owner or path)
        )
