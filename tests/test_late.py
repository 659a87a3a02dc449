"""Late dataclasses: the same as those of the standard library, from their first use on."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import field
from functools import cached_property
from typing import Any

import pytest

from modelspace import late


def classes(dataclass: Any, **options: bool) -> tuple[type, type, list[object]]:
    """A class and one derived from it, made by a decorator, and a list of what `__post_init__` saw."""
    seen: list[object] = []

    @dataclass(frozen=True, **options)
    class Base:
        """A base."""

        name: str
        parts: tuple[int, ...] = ()
        notes: list[str] = field(default_factory=list, compare=False)
        hidden: int = field(default=3, repr=False)
        nothing: str | None = None

        def __post_init__(self) -> None:
            seen.append(self.name)

        @cached_property
        def length(self) -> int:
            return len(self.name)

    @dataclass(frozen=True, **options)
    class Derived(Base):
        """A derived class."""

        size: float = 0.5

    return Base, Derived, seen


USES: dict[str, Callable[[type, type], object]] = {
    "object": lambda base, derived: repr(derived("a", (1, 2), size=2.0)),
    "fields": lambda base, derived: [(each.name, each.type, each.repr) for each in dataclasses.fields(derived)],
    "signature": lambda base, derived: str(inspect.signature(derived)),
    "match arguments": lambda base, derived: (base.__match_args__, derived.__match_args__),
    "is a dataclass": lambda base, derived: dataclasses.is_dataclass(base),
    "equal": lambda base, derived: (base("a") == base("a", notes=["x"]), base("a") == base("b")),
    "equal to another": lambda base, derived: base("a") == derived("a"),
    "hash": lambda base, derived: len({base("a"), base("a"), base("b")}),
    "replaced": lambda base, derived: repr(dataclasses.replace(derived("a"), size=1.0)),
    "dictionary": lambda base, derived: dataclasses.asdict(derived("a", (1,), ["x"])),
    "class attribute": lambda base, derived: (repr(base("a")), base.hidden, hasattr(base, "notes")),
    "cached property": lambda base, derived: derived("abc").length,
    "copy": lambda base, derived: copy.deepcopy(derived("a", (1,))) == derived("a", (1,)),
    "documentation": lambda base, derived: (base.__doc__, derived.__doc__),
    "names": lambda base, derived: (base("a").__init__.__qualname__, base.__name__),  # type: ignore[misc]
}


@pytest.mark.parametrize("use", USES)
def test_each_first_use_gives_what_a_dataclass_gives(use: str) -> None:
    late_base, late_derived, seen = classes(late.dataclass)
    base, derived, expected = classes(dataclasses.dataclass)
    assert USES[use](late_base, late_derived) == USES[use](base, derived)
    assert seen == expected


def test_nothing_is_made_before_the_first_use_and_nothing_stands_in_after_it() -> None:
    base, derived, _ = classes(late.dataclass)
    own_names = set(vars(derived))
    assert isinstance(vars(derived)["__dataclass_fields__"], late._Attribute)
    derived("a")
    assert not any(isinstance(value, late._Attribute) for cls in (base, derived) for value in vars(cls).values())
    standard = classes(dataclasses.dataclass)[1]
    assert set(vars(derived)) - {"__abstractmethods__"} == set(vars(standard)) - {"__abstractmethods__"}
    assert own_names - set(vars(derived)) == {"__signature__"}


@pytest.mark.parametrize("change", ["name", "other"])
def test_frozen_objects_can_not_be_changed(change: str) -> None:
    for made in (late.dataclass, dataclasses.dataclass):
        value = classes(made)[1]("a")
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{change}'"):
            setattr(value, change, "b")
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{change}'"):
            delattr(value, change)


def test_wrong_arguments_are_an_error_at_the_first_call() -> None:
    base, _, _ = classes(late.dataclass)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        base()


@pytest.mark.parametrize("made", [late.dataclass, dataclasses.dataclass])
def test_other_arguments(made: Any) -> None:
    @made
    class Plain:
        value: int
        others: list[int] = field(default_factory=list)

    @made(frozen=True, eq=False, repr=False)
    class Named:
        value: int

        def __repr__(self) -> str:
            return f"<{self.value}>"

    @made(order=True)
    class Ordered:
        value: int

    plain = Plain(1)
    plain.value = 2
    assert plain == Plain(2)
    assert Plain.__hash__ is None
    assert plain.others is not Plain(2).others
    one, other = Named(1), Named(1)
    assert (one == other, repr(one), len({one, other})) == (False, "<1>", 2)
    assert sorted([Ordered(2), Ordered(1)]) == [Ordered(1), Ordered(2)]


@late.dataclass(frozen=True)
class Stored:
    """In a module, so that it can be unpickled."""

    value: int


def test_an_object_of_another_process_is_complete_before_one_is_made_here() -> None:
    text = pickle.dumps(Stored(7))
    other = late.dataclass(frozen=True)(
        type("Stored", (), {"__annotations__": {"value": "int"}, "__module__": __name__})
    )
    module, kept = sys.modules[__name__], Stored
    module.Stored = other
    try:
        loaded = pickle.loads(text)
        assert repr(loaded) == "Stored(value=7)"
        assert loaded == other(7)
        assert hash(loaded) == hash(other(7))
    finally:
        module.Stored = kept


def test_threads_that_use_a_class_first_at_once_get_complete_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    base, derived, _ = classes(late.dataclass)
    failures: list[BaseException] = []
    begin = threading.Barrier(8)
    standard = dataclasses.dataclass

    def slow(**options: Any) -> Any:
        time.sleep(0.01)
        return standard(**options)

    def use() -> None:
        begin.wait()
        try:
            for _ in range(200):
                assert derived("a", (1,)) == derived("a", (1,))
                assert "Base(name='b'" in repr(base("b"))
        except BaseException as error:
            failures.append(error)

    monkeypatch.setattr(dataclasses, "dataclass", slow)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
