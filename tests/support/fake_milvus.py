"""A store in memory that takes the calls of pymilvus's `MilvusClient` which `modelspace.spaces.milvus_client` makes.

`install` puts it in the place of pymilvus. It knows the conditions that the package sends, and nothing else of Milvus:
tests/spaces/test_milvus.py runs the same tests with milvus-lite and a server where these are installed.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

ADDRESS = "milvus://127.0.0.1:19530"

_CONDITIONS = (
    (r"", lambda row: True),
    (r"model_id == (-?\d+)", lambda row, other: row["model_id"] == int(other)),
    (r"model_id in \[([-\d, ]*)\]", lambda row, ids: str(row["model_id"]) in ids.split(", ")),
    (r"model_id not in \[([-\d, ]*)\]", lambda row, ids: str(row["model_id"]) not in ids.split(", ")),
    (
        r"position >= (-?\d+) and position <= (-?\d+)",
        lambda row, low, high: int(low) <= row["position"] <= int(high),
    ),
)


class MilvusException(Exception):  # pymilvus's name
    """What pymilvus raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Collection:
    """Rows by id, and the kind of the index."""

    def __init__(self, dimension: int, kind: str) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.dimension, self.kind = dimension, kind


class Server:
    """The state of a server.

    Attributes:
        collections: by name.
        aliases: alias -> name of a collection.
        is_up: whether it answers.
        dies_after: number of rows after which it stops; None: never.
        calls: names of the calls so far.
        forgets: share of the rows that a search with a graph does not find.
    """

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.is_up = True
        self.dies_after: int | None = None
        self.calls: list[str] = []
        self.forgets = 0.0
        self.options: dict[str, Any] = {}
        self.consistency: set[str] = set()

    def called(self, name: str) -> None:
        self.calls.append(name)
        if not self.is_up:
            raise MilvusException("Fail connecting to server on 127.0.0.1:19530")

    def collection(self, name: str) -> Collection:
        name = self.aliases.get(name, name)
        if name not in self.collections:
            raise MilvusException(f"can't find collection {name}")
        return self.collections[name]


def rows_where(collection: Collection, condition: str) -> list[dict[str, Any]]:
    for pattern, holds in _CONDITIONS:
        if match := re.fullmatch(pattern, condition):
            return [row for row in collection.rows.values() if holds(row, *match.groups())]
    raise MilvusException(f"cannot parse expression: {condition}")


def client_of(server: Server) -> type:  # noqa: C901  # a class of small methods
    class MilvusClient:
        def __init__(self, uri: str, **options: Any) -> None:
            server.options = {"uri": uri, **options}
            server.called("connect")

        @staticmethod
        def create_schema(*, auto_id: bool, enable_dynamic_field: bool) -> Any:
            assert not auto_id
            assert not enable_dynamic_field
            fields: dict[str, Any] = {}
            return SimpleNamespace(fields=fields, add_field=lambda name, kind, **more: fields.update({name: more}))

        @staticmethod
        def prepare_index_params() -> Any:
            given = SimpleNamespace(kind="")

            def add_index(field: str, *, index_type: str, metric_type: str, params: dict[str, int]) -> None:
                assert (field, metric_type) == ("vector", "IP")
                given.kind = index_type

            given.add_index = add_index
            return given

        def create_collection(
            self, name: str, *, schema: Any, index_params: Any, consistency_level: str, timeout: float
        ) -> None:
            server.called("create")
            assert consistency_level == "Strong"
            assert re.fullmatch(r"[A-Za-z_]\w{0,254}", name)
            server.collections[name] = Collection(schema.fields["vector"]["dim"], index_params.kind)

        def insert(self, name: str, rows: list[dict[str, Any]], *, timeout: float) -> None:
            server.called("insert")
            collection = server.collection(name)
            for row in rows:
                if server.dies_after == 0:
                    server.is_up = False
                    server.called("insert")
                server.dies_after = None if server.dies_after is None else server.dies_after - 1
                assert len(row["vector"]) == collection.dimension
                assert row["model_id"] not in collection.rows
                collection.rows[row["model_id"]] = dict(row)

        def upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
            server.collection(name).rows.update({row["model_id"]: dict(row) for row in rows})

        def delete(self, name: str, *, ids: list[int]) -> None:
            for model_id in ids:
                del server.collection(name).rows[model_id]

        def flush(self, name: str, *, timeout: float) -> None:
            server.called("flush")

        def load_collection(self, name: str, *, timeout: float) -> None:
            server.called("load")
            server.collection(name)

        def describe_index(self, name: str, field: str, *, timeout: float) -> dict[str, Any]:
            return {"pending_index_rows": 0, "state": "Finished"}

        def list_collections(self, *, timeout: float = 0) -> list[str]:
            server.called("list")
            return list(server.collections)

        def drop_collection(self, name: str, *, timeout: float = 0) -> None:
            server.called("drop")
            server.collections.pop(name, None)

        def describe_alias(self, alias: str, *, timeout: float = 0) -> dict[str, str]:
            server.called("alias")
            if server.aliases.get(alias) not in server.collections:  # as a server of 2.3 says it
                raise MilvusException(f"alias not found[alias={alias}]")
            return {"alias": alias, "collection_name": server.aliases[alias]}

        def create_alias(self, name: str, alias: str, *, timeout: float = 0) -> None:
            server.called("switch")
            if alias in server.aliases:
                raise MilvusException(f"alias already exist[alias={alias}]")
            server.aliases[alias] = name

        def alter_alias(self, name: str, alias: str, *, timeout: float = 0) -> None:
            server.called("switch")
            if server.aliases.get(alias) not in server.collections:
                raise MilvusException(f"alias not found[alias={alias}]")
            server.aliases[alias] = name

        def drop_alias(self, alias: str, *, timeout: float = 0) -> None:
            server.called("switch")
            server.aliases.pop(alias, None)

        def query(
            self, name: str, *, filter: str, output_fields: list[str], timeout: float = 0, limit: int | None = None
        ) -> list[dict[str, Any]]:
            server.called("query")
            rows = rows_where(server.collection(name), filter)
            if output_fields == ["count(*)"]:
                return [{"count(*)": len(rows)}]
            assert limit is not None
            return [{field: row[field] for field in output_fields} for row in rows[:limit]]

        def search(
            self,
            name: str,
            *,
            data: list[list[float]],
            limit: int,
            filter: str,
            output_fields: list[str],
            search_params: dict[str, Any],
            consistency_level: str,
            timeout: float,
        ) -> list[list[dict[str, Any]]]:
            server.called("search")
            assert 0 < limit <= 16_384
            assert consistency_level in ("Strong", "Bounded")
            server.consistency.add(consistency_level)
            collection = server.collection(name)
            rows = rows_where(collection, filter)
            if collection.kind != "FLAT":
                rows = rows[int(len(rows) * server.forgets) :]
            matrix = np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), collection.dimension)
            answers = []
            for query in data:
                assert len(query) == collection.dimension
                scores = matrix @ np.array(query, np.float32)
                best = np.argsort(-scores, kind="stable")[:limit]
                answers.append(
                    [
                        {
                            "id": rows[i]["model_id"],
                            "distance": float(scores[i]),
                            "entity": {field: rows[i][field] for field in output_fields if field != "model_id"},
                        }
                        for i in best
                    ]
                )
            return answers

        def close(self) -> None:
            server.calls.append("close")

    return MilvusClient


def install(monkeypatch: pytest.MonkeyPatch, server: Server | None = None) -> Server:
    """Let the package talk to a server in memory."""
    server = server or Server()
    module = ModuleType("pymilvus")
    kinds = {name: name for name in ("INT64", "DOUBLE", "VARCHAR", "JSON", "FLOAT_VECTOR")}
    for name, value in {
        "MilvusClient": client_of(server),
        "MilvusException": MilvusException,
        "DataType": SimpleNamespace(**kinds),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pymilvus", module)
    return server
