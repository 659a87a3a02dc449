"""The one place where the command line takes hold of the library. Imported late: it costs numpy, duckdb and faiss."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspace.workspace import ModelSpace


def open_space(home: str | None) -> ModelSpace:
    """The registry that the user means.

    Raises:
        NotFoundError: there is none; the hint says how to make one.
    """
    from modelspace.workspace import ModelSpace

    return ModelSpace.open(home)


def open_or_make(home: str | None) -> tuple[ModelSpace, bool]:
    """As `open_space`, but one that is not there is made with the defaults; the second value says whether it was."""
    from modelspace.home import REGISTRY, find_home
    from modelspace.workspace import ModelSpace

    folder = find_home(home)
    if folder is not None and (folder / REGISTRY).is_file():
        return ModelSpace.open(home), False
    return ModelSpace.create(home), True
