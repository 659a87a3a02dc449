"""A bypass of typer's conversion of arguments, which imports pydantic: 0.1 s on every command.

Typer 0.29 converts each argument through a pydantic schema. Strings, integers and choices are converted here directly;
other types and invalid values still go through typer, which also writes the error messages. Other versions of typer
don't have the attribute that is replaced here, and are not affected.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import typer

from modelspace.deprecated import renamed

_SLOT = "_runtime_param"


class DirectConversion:
    """Converts simple values itself and passes all others to the parameter's own conversion.

    Args:
        kind: the type of the parameter: str, int, list[str] or an Enum; for any other type only None is simple.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of a parameter, converted to its type."""
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


def use_direct_conversion(command: Any) -> None:
    """Install `DirectConversion` in the parameters of a command and its subcommands."""
    # `get_params`, since --help is created on demand, cached, and not in `params`.
    for param in command.get_params(typer.Context(command, **command.context_settings)):
        descriptor = getattr(param, "type_descriptor", None)
        bounded = getattr(param, "min", None) is not None or getattr(param, "max", None) is not None
        if descriptor is not None and hasattr(param, _SLOT) and getattr(param, _SLOT) is None:
            # typer checks bounds, so for a bounded parameter only None is simple.
            setattr(param, _SLOT, DirectConversion(None if bounded else descriptor.annotation))
    for subcommand in getattr(command, "commands", {}).values():
        use_direct_conversion(subcommand)


__getattr__ = renamed(__name__, {"Direct": "DirectConversion", "lighten": "use_direct_conversion"})
