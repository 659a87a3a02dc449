"""The settings of every connection to a registry: what a query may use, and nothing outside the file."""

from __future__ import annotations

#: Bytes that DuckDB may use.
MEMORY_BYTES = 2_000_000_000

LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": f"{MEMORY_BYTES}B",
    "temp_directory": "",  # a query that spills to disk would write next to the registry
    "python_enable_replacements": "false",  # an unknown table name would be read as a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
#: Set once the connection is open: DuckDB applies a configuration in no particular order, and these two could prevent
#: the other settings.
LOCK = "SET enable_external_access = false; SET lock_configuration = true"
