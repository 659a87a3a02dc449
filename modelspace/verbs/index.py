"""Copies of the spaces' vectors in Milvus: filled, compared with the registry, and dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modelspace.errors import DamagedError, UsageError
from modelspace.registry import Registry
from modelspace.results import IndexInfo
from modelspace.spaces import milvus, milvus_parts
from modelspace.spaces.milvus_client import FORMS, Address, Store
from modelspace.spaces.milvus_parts import DisagreementError, Part, Source
from modelspace.spaces.vector_index import LOCAL, VARIABLE, chosen_address

Progress = Callable[[int, int], None]


def push(
    path: Path, index: str | None, space: str | None, *, whole: bool, progress: Progress | None
) -> list[IndexInfo]:
    """See `modelspace.workspace.ModelSpace.push_index`."""
    store = _store(index)
    infos = []
    with Registry.open(path) as registry:
        for source in _sources(registry, space):
            try:
                parts, written = milvus.update(store, source, whole=whole, progress=progress)
            except DisagreementError as error:
                raise DamagedError(
                    f"the index of space {source.name!r} at {store.address.text} was not filled: {error}",
                    "the copy is as it was before; `space.push_index(whole=True)` fills all of it again",
                ) from None
            infos.append(_info(source, "fresh" if parts else "empty", "", parts, written))
    return infos


def status(path: Path, index: str | None, space: str | None, *, deep: bool) -> list[IndexInfo]:
    """See `modelspace.workspace.ModelSpace.index_status`."""
    store = _store(index)
    with Registry.open(path) as registry:
        return [_info(source, *milvus.state_of(store, source, deep=deep)) for source in _sources(registry, space)]


def drop(path: Path, index: str | None, space: str | None) -> list[str]:
    """See `modelspace.workspace.ModelSpace.drop_index`."""
    store = _store(index)
    with Registry.open(path) as registry:
        return [source.name for source in _sources(registry, space) if milvus_parts.drop(store, source)]


def _store(index: str | None) -> Store:
    address = index or chosen_address()
    if address == LOCAL:
        raise UsageError("no store is named", f"name it with `index=` or {VARIABLE}: {FORMS}")
    return milvus.store_at(Address.parse(address))


def _sources(registry: Registry, space: str | None) -> Iterator[Source]:
    rows = registry.spaces() if space is None else [registry.space(space)]
    return (Source.of(registry, row.spec.space_id) for row in rows)


def _info(source: Source, state: str, reason: str, parts: Sequence[Part], written: int = 0) -> IndexInfo:
    return IndexInfo(
        space=source.name,
        state=state,
        reason=reason,
        n_models=len(source.models.ids),
        n_indexed=sum(part.count for part in parts),
        n_written=written,
        parts=len(parts),
        recall=min((part.recall for part in parts), default=1.0),
    )
