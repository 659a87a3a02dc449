"""Milvus: addresses, and the few calls that an index needs, with errors in our own words.

| address | what it is |
|---|---|
| `milvus:FILE.db` | milvus-lite, in this process; a folder that one process at a time can open |
| `milvus://HOST:PORT`, `milvus://HOST:PORT/DATABASE` | a server or a cluster |
| `milvus+tls://HOST:PORT` | the same, encrypted |

The token (`user:password`, or an API key) comes from the file that MODELSPACE_INDEX_TOKEN_FILE names, else from
MODELSPACE_INDEX_TOKEN, never from the address, since command lines can be read by other users. Of a server with a
certificate of your own authority, MODELSPACE_INDEX_CA names the authority's file.

This module is the only one that imports pymilvus, and does so on first use.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelspace.errors import BusyError, ModelspaceError, ModelspaceWarning, NotFoundError, UsageError
from modelspace.files import expanded

TOKEN, TOKEN_FILE, AUTHORITY = "MODELSPACE_INDEX_TOKEN", "MODELSPACE_INDEX_TOKEN_FILE", "MODELSPACE_INDEX_CA"

#: Most rows that one search or query returns; a limit of Milvus.
MOST_ROWS = 16_384

#: Seconds that a call may take. pymilvus repeats calls that fail until then.
PATIENCE = 30.0

#: Seconds that connecting may take, and that a file of milvus-lite is waited for that another process has open.
CONNECTING = 10.0

#: Bytes of vectors in one request; Milvus refuses requests of more than 64 MB.
REQUEST_BYTES = 8 << 20

_WAY_OUT = "see that it runs and lets you in, or search in the files next to the registry: `index='local'`"
_SERVER = re.compile(r"milvus(\+tls)?://([^/?#\s]*)(?:/(\w+))?/?")
#: The forms of addresses.
FORMS = "milvus:FILE.db, milvus://HOST:19530 or milvus+tls://HOST:19530"
_INDEX = {True: ("FLAT", {}), False: ("HNSW", {"M": 16, "efConstruction": 200})}


@dataclass(frozen=True)
class Address:
    """Where an index is.

    Attributes:
        text: as it was given.
        uri: for pymilvus.
        database: of a server; "" for its default.
        file: of milvus-lite; None for a server.
    """

    text: str
    uri: str
    database: str = ""
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address.

        >>> Address.parse("milvus+tls://db.example:19530/models").uri
        'https://db.example:19530'

        Raises:
            UsageError: it is none, or holds a password.
        """
        if "@" in text:
            raise UsageError(
                "the address of an index holds a name or a password, which other users could read",
                f"leave them out, and put 'name:password' into a file that {TOKEN_FILE} names",
            )
        if match := _SERVER.fullmatch(text):
            host, _, port = match[2].rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
                raise UsageError(
                    f"the index {text!r} has no host and port", "example: `index='milvus://localhost:19530'`"
                )
            return cls(text, f"http{'s' if match[1] else ''}://{match[2]}", match[3] or "")
        scheme, _, name = text.partition(":")
        if scheme != "milvus" or not name or name.startswith("//"):
            raise UsageError(f"there is no index {text!r}", f"an index is local, {FORMS}")
        file = expanded(Path(name))
        if file.suffix != ".db":
            raise UsageError(f"the file of an index of Milvus ends in .db, not {file.name!r}", f"use {FORMS}")
        return cls(text, str(file.absolute()), file=file.absolute())

    @property
    def is_exposed(self) -> bool:
        """Whether what is sent there crosses a network unencrypted."""
        if self.file is not None or self.uri.startswith("https"):
            return False
        host = self.uri.removeprefix("http://").rpartition(":")[0].strip("[]")
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"


class MissingError(ModelspaceError):
    """A collection or an alias is missing in the store."""


class Store:
    """A connection to Milvus.

    Args:
        address: where it is.

    Raises:
        ModelspaceError: pymilvus is not installed, or the server can't be reached.
        BusyError: another process has the file open.
        NotFoundError: the folder of the file, or the database, does not exist.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._pymilvus = _pymilvus(lite=address.file is not None)
        self._failures = _failures(self._pymilvus)
        self._client: Any = _connected(self._pymilvus, address, self._failures)

    def __repr__(self) -> str:
        return f"Store({self.address.text!r})"

    def close(self) -> None:
        """Disconnect; of a file of milvus-lite, let other processes open it."""
        self._client.close()
        if self.address.file is not None:
            from milvus_lite import server_manager_instance

            server_manager_instance.release_server(str(self.address.file))

    # ---- collections and aliases

    def create(self, name: str, dimension: int, exact: bool) -> None:
        """Create an empty collection with an index: of all vectors, or a graph over them if it need not be exact."""
        types = self._pymilvus.DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("model_id", types.INT64, is_primary=True)
        for field in ("position", "sum", "parameters"):
            schema.add_field(field, types.INT64)
        schema.add_field("projection", types.DOUBLE)
        for field in ("name", "task", "data", "architecture"):
            schema.add_field(field, types.VARCHAR, max_length=LONGEST_TEXT)
        schema.add_field("tags", types.JSON)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=dimension)
        kind, parameters = _INDEX[exact]
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="IP", params=parameters)
        with self._reporting():
            self._client.create_collection(
                name, schema=schema, index_params=index, consistency_level="Strong", timeout=PATIENCE
            )

    def insert(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows to a collection."""
        with self._reporting():
            self._client.insert(name, list(rows), timeout=PATIENCE)

    def seal(self, name: str) -> None:
        """Write a filled collection to disk, so that its index is built."""
        with self._reporting():
            self._client.flush(name, timeout=20 * PATIENCE)

    def wait(self, name: str) -> None:
        """Wait until the index over a sealed collection is built.

        Raises:
            ModelspaceError: it was not within an hour.
        """
        end = time.monotonic() + 3600
        while True:
            with self._reporting():
                state = self._client.describe_index(name, "vector", timeout=PATIENCE) or {}
            if not int(state.get("pending_index_rows", 0)) and state.get("state", "Finished") == "Finished":
                return
            if time.monotonic() > end:
                raise ModelspaceError(f"the index {self.address.text} was not built within an hour", _WAY_OUT)
            time.sleep(1)

    def load(self, name: str) -> None:
        """Get a collection ready for searches."""
        with self._reporting():
            self._client.load_collection(name, timeout=20 * PATIENCE)

    def names(self) -> list[str]:
        """Names of all collections."""
        with self._reporting():
            return [str(name) for name in self._client.list_collections(timeout=PATIENCE)]

    def drop(self, name: str) -> None:
        """Drop a collection; a missing one is none."""
        with self._reporting():
            self._client.drop_collection(name, timeout=PATIENCE)

    def target(self, alias: str) -> str | None:
        """The collection behind an alias, or None."""
        try:
            with self._reporting():
                return str(self._client.describe_alias(alias, timeout=PATIENCE)["collection_name"])
        except MissingError:
            return None

    def switch(self, alias: str, name: str) -> None:
        """Let an alias point to a collection, from one moment to the next."""
        try:
            self._client.alter_alias(name, alias, timeout=PATIENCE)
            return
        except self._failures:  # it is new, or, in some versions, what it points to was dropped
            with suppress(*self._failures):
                self._client.drop_alias(alias, timeout=PATIENCE)
        with self._reporting():
            self._client.create_alias(name, alias, timeout=PATIENCE)

    def drop_alias(self, alias: str) -> None:
        """Drop an alias."""
        with self._reporting():
            self._client.drop_alias(alias, timeout=PATIENCE)

    # ---- rows

    def count(self, name: str) -> int:
        """Number of rows of a collection."""
        with self._reporting():
            rows = self._client.query(name, filter="", output_fields=["count(*)"], timeout=PATIENCE)
        return int(rows[0]["count(*)"])

    def rows(self, name: str, condition: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that meet a condition, at most `MOST_ROWS`."""
        with self._reporting():
            rows = self._client.query(
                name, filter=condition, output_fields=list(fields), limit=MOST_ROWS, timeout=PATIENCE
            )
        return [dict(row) for row in rows]

    def search(
        self,
        name: str,
        vectors: Any,
        k: int,
        condition: str = "",
        fields: Sequence[str] = ("sum",),
        *,
        settled: bool = False,
    ) -> list[list[dict[str, Any]]]:
        """For each query the k rows with the largest inner products: `model_id`, `score` and the fields named.

        Args:
            name: of a collection.
            vectors: (q, d) float32 with the collection's dimension.
            k: at most `MOST_ROWS`.
            condition: on the rows, as Milvus spells it.
            fields: what else to return.
            settled: see the rows as they were some seconds ago, which takes 200 ms less than as they are now.
        """
        with self._reporting():
            answers = self._client.search(
                name,
                data=[row.tolist() for row in vectors],
                limit=k,
                filter=condition,
                output_fields=["model_id", *fields],
                search_params={"metric_type": "IP", "params": {"ef": min(max(2 * k, 200), 32_768)}},
                consistency_level="Bounded" if settled else "Strong",
                timeout=PATIENCE,
            )
        return [
            [
                # Versions differ in the name of the key: that of the field, or "id".
                {"model_id": hit.get("model_id", hit.get("id")), "score": hit["distance"]}
                | {field: hit["entity"][field] for field in fields}
                for hit in answer
            ]
            for answer in answers
        ]

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            reason = _sentence(error)
            if re.search(r"not ?found|can't find|does not exist|not exist", reason, re.IGNORECASE):
                raise MissingError(f"{self.address.text}: {reason}") from None
            raise ModelspaceError(f"the index {self.address.text} can't be used: {reason}", _WAY_OUT) from None


#: Longest text of a field, in bytes; longer ones are cut.
LONGEST_TEXT = 4096


def _pymilvus(*, lite: bool) -> Any:
    try:
        import pymilvus

        if lite:
            import milvus_lite  # noqa: F401  # its absence would be reported as a file that can't be opened
    except ImportError as error:
        raise ModelspaceError(
            f"{error.name or 'pymilvus'} is not installed", "pip install 'modelspace-db[milvus]'"
        ) from error
    for name in ("pymilvus", "milvus_lite"):  # they print tracebacks of errors that are reported here
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return pymilvus


def _failures(pymilvus: Any) -> tuple[type[Exception], ...]:
    """What its calls raise: its own exceptions, and those of gRPC where a call takes too long or was cancelled."""
    with suppress(ImportError):
        import grpc

        return pymilvus.MilvusException, grpc.RpcError
    return (pymilvus.MilvusException,)


def _connected(pymilvus: Any, address: Address, failures: tuple[type[Exception], ...]) -> Any:
    options: dict[str, Any] = {"timeout": CONNECTING}
    if address.file is not None:
        if not address.file.parent.is_dir():
            raise NotFoundError(f"the folder of the index does not exist: {address.file.parent}", "make it first")
    else:
        if token := _token():
            options["token"] = token
            if address.is_exposed:
                warnings.warn(
                    f"the token is sent to {address.text} unencrypted; milvus+tls:// encrypts it",
                    ModelspaceWarning,
                    stacklevel=2,
                )
        if address.database:
            options["db_name"] = address.database
        if authority := os.environ.get(AUTHORITY):
            options["server_pem_path"] = authority
    return _repeated(lambda: pymilvus.MilvusClient(address.uri, **options), failures, address)


def _repeated(connect: Callable[[], Any], failures: tuple[type[Exception], ...], address: Address) -> Any:
    """Connect; a file that another process has open is tried again for a few seconds."""
    end = time.monotonic() + CONNECTING
    while True:
        try:
            return connect()
        except failures as error:
            reason = _sentence(error)
            if address.file is None:
                raise ModelspaceError(f"the index {address.text} can't be reached: {reason}", _WAY_OUT) from None
            if time.monotonic() > end:
                raise BusyError(
                    f"the index {address.text} can't be opened: {reason}",
                    "if another process has it open, wait until that ends; a server takes many at once. "
                    "To search in the files next to the registry: `index='local'`",
                ) from None
            time.sleep(0.2)


def _token() -> str:
    file = os.environ.get(TOKEN_FILE)
    if not file:
        return os.environ.get(TOKEN, "")
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"the token can't be read from {file}: {reason}", f"{TOKEN_FILE} names that file") from None


def _sentence(error: Exception) -> str:
    """An exception of pymilvus or gRPC as one line."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else getattr(error, "message", "") or error)
    return " ".join(text.split())[:300]
