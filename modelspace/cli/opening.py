"""The one place where commands open a registry. The imports are late, since they load numpy, duckdb and faiss."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspace.workspace import ModelSpace


def open_space(home: str | None) -> ModelSpace:
    """Open the registry of a folder, or the nearest one.

    Raises:
        NotFoundError: there is none; the hint says how to create one.
    """
    from modelspace.workspace import ModelSpace

    return ModelSpace.open(home)


def open_or_make(home: str | None) -> tuple[ModelSpace, bool]:
    """As `open_space`, but create a missing registry with the defaults; the second value is True if it was created."""
    from modelspace.home import REGISTRY, find_home
    from modelspace.workspace import ModelSpace

    folder = find_home(home)
    if folder is not None and (folder / REGISTRY).exists():
        return ModelSpace.open(home), False
    return ModelSpace.create(home), True
