"""A vector database of neural networks: register a model once, ask which one to transfer from.

Importing this package imports nothing heavy; the names below are imported on first use.

>>> import modelspace
>>> modelspace.Preprocessing.raw((32, 32)).channels
'rgb'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelspace import deprecated

if TYPE_CHECKING:
    from modelspace.errors import ModelspaceError
    from modelspace.types import Preprocessing
    from modelspace.workspace import ModelSpace

__version__ = "0.1.0"

__all__ = ["ModelSpace", "ModelspaceError", "Preprocessing", "__version__"]

_HOMES = {
    "ModelSpace": "modelspace.workspace",
    "ModelspaceError": "modelspace.errors",
    "Preprocessing": "modelspace.types",
}


deprecated.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
