"""Dataclasses whose methods are made when one of them is used first.

`dataclasses.dataclass` writes and compiles the text of each method when a module is imported: 0.6 ms a class, 30 ms of
a query that makes objects of a few classes. The `dataclass` of this module takes the same arguments, and the class is
the same as one of `dataclasses` from its first use on: the first object, `dataclasses.fields` or `inspect.signature`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

#: What the standard library makes besides methods.
_ATTRIBUTES = ("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__signature__")

_ORDER = ("__lt__", "__le__", "__gt__", "__ge__")

#: All that it may make; `__replace__` since Python 3.13.
_MADE = ("__init__", "__repr__", "__eq__", "__hash__", "__replace__", *_ORDER, *_ATTRIBUTES)

#: Threads may use a class first at once; the making of a class uses that of its bases.
_lock = threading.RLock()


class _Attribute:
    """Stands in for an attribute of a class until the class is made."""

    def __init__(self, name: str, make: Callable[[], None]) -> None:
        self._name, self._make = name, make

    def __get__(self, instance: object, owner: type) -> Any:
        self._make()
        return getattr(owner if instance is None else instance, self._name)


def _method(name: str, make: Callable[[], None]) -> Callable[..., Any]:
    """Stands in for a method until the class is made."""

    def method(self: object, *values: Any, **named: Any) -> Any:
        make()
        return getattr(self, name)(*values, **named)

    return method


def _methods(options: dict[str, bool]) -> Iterator[str]:
    """Names of the methods that `dataclasses.dataclass` makes with these arguments, of those that are made late."""
    for name in ("init", "repr", "eq"):
        if options[name]:
            yield f"__{name}__"
    if options["eq"] and options["frozen"]:
        yield "__hash__"
    if options["order"]:
        yield from _ORDER


def _freeze(cls: type) -> None:
    """Refuse changes of fields, as `dataclasses` does."""

    def __setattr__(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in cls.__dataclass_fields__:  # type: ignore[attr-defined]
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)  # type: ignore[arg-type]  # mypy takes any class for an object

    def __delattr__(self: object, name: str) -> None:
        if type(self) is cls or name in cls.__dataclass_fields__:  # type: ignore[attr-defined]
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)  # type: ignore[arg-type]  # likewise

    for method in (__setattr__, __delattr__):
        if method.__name__ in cls.__dict__:
            raise TypeError(f"a frozen dataclass has no {method.__name__} of its own")
        setattr(cls, method.__name__, method)


def _make(cls: type, options: dict[str, bool], stand_ins: dict[str, object]) -> None:
    """Replace the stand-ins of a class one by one, so that another thread finds each or what it stands for."""
    kept_out = {"__dict__", "__weakref__", "__setattr__", "__delattr__", *stand_ins}
    own = {name: value for name, value in vars(cls).items() if name not in kept_out}
    compiled = type(cls)(cls.__name__, cls.__bases__, {**own, "__qualname__": cls.__qualname__})
    dataclasses.dataclass(**options)(compiled)
    for name, value in own.items():
        if isinstance(value, dataclasses.Field):
            if name in vars(compiled):
                setattr(cls, name, vars(compiled)[name])
            else:
                delattr(cls, name)
    for name in _MADE:
        if name in vars(compiled) and vars(compiled)[name] is not own.get(name):
            setattr(cls, name, vars(compiled)[name])
        elif name in stand_ins:
            delattr(cls, name)


def _late(cls: type, options: dict[str, bool]) -> type:
    """Give a class stand-ins for what `dataclasses.dataclass` makes."""
    stand_ins: dict[str, object] = {}

    def make() -> None:
        with _lock:
            if stand_ins:
                _make(cls, options, stand_ins)
                stand_ins.clear()

    stand_ins.update({name: _method(name, make) for name in _methods(options) if name not in cls.__dict__})
    stand_ins.update({name: _Attribute(name, make) for name in _ATTRIBUTES if name not in cls.__dict__})
    if options["eq"] and not options["frozen"] and "__hash__" not in cls.__dict__:
        cls.__hash__ = None  # type: ignore[assignment]  # what Python does with a class that has `__eq__`
    for name, stand_in in stand_ins.items():
        setattr(cls, name, stand_in)
    if options["frozen"]:
        _freeze(cls)
    return cls


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, init=True, repr=True, eq=True, order=False, frozen=False):
        """As `dataclasses.dataclass`, but made on use; without `slots`, which would make another class."""
        options = {"init": init, "repr": repr, "eq": eq, "order": order, "frozen": frozen}
        return _late(cls, options) if cls is not None else lambda decorated: _late(decorated, options)
