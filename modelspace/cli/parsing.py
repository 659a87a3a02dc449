"""A short way past typer's general conversion of words, which imports pydantic: 0.1 s on every command.

Typer 0.29 converts each word of the command line through a pydantic schema. For text, whole numbers and choices the
result is plain, so it is given directly; anything else, and every word that does not fit, still goes typer's way, which
also words the error. Other versions of typer don't have the slot that is filled here and work as they always do.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import typer

_SLOT = "_runtime_param"


class Direct:
    """Converts the easy words itself and hands the others to the parameter's own conversion.

    Args:
        kind: the type of the parameter: str, int, list[str], an Enum, or any other, of which only None is easy.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if self.kind == list[str] and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return list(value)
        if self.kind in (str, int) and type(value) is self.kind:
            return value
        if self.kind is int and isinstance(value, str) and value.isascii() and value.isdecimal():
            return int(value)
        if isinstance(self.kind, type) and issubclass(self.kind, Enum):
            if isinstance(value, self.kind):
                return value
            if value in [each.value for each in self.kind]:
                return self.kind(value)
        setattr(param, _SLOT, None)
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def lighten(command: Any) -> None:
    """Give the parameters of a command, and of the commands below it, the short way."""
    # The option --help is made on demand, kept, and no member of `params`.
    for param in command.get_params(typer.Context(command, **command.context_settings)):
        descriptor = getattr(param, "type_descriptor", None)
        bounded = getattr(param, "min", None) is not None or getattr(param, "max", None) is not None
        if descriptor is not None and hasattr(param, _SLOT) and getattr(param, _SLOT) is None:
            # Bounds are typer's to check; only that nothing was given is plain then.
            setattr(param, _SLOT, Direct(None if bounded else descriptor.annotation))
    for below in getattr(command, "commands", {}).values():
        lighten(below)
