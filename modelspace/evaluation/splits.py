"""Targets to choose options on, and targets kept aside to report on.

An option that is chosen where it is judged looks better than it is. So the targets of an oracle are parted once and for all, by
nothing but their names: in alphabetical order, the first, third, fifth, ... are there to choose on, the others are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelspace.errors import NotFoundError

CHOSEN, KEPT = "chosen", "kept"


def half(targets: Sequence[str], which: str) -> tuple[str, ...]:
    """The targets of one half, in their own order; which: `CHOSEN` or `KEPT`.

    >>> half(["normals", "depth", "edges"], "kept")
    ('edges',)
    """
    ordered = sorted(targets)
    mine = set(ordered[::2] if which == CHOSEN else ordered[1::2])
    return tuple(name for name in targets if name in mine)


def select(targets: Sequence[str], wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Targets by the word "chosen" or "kept", or by their names.

    Raises:
        NotFoundError: a name is not among them.
    """
    if isinstance(wanted, str):
        if wanted in (CHOSEN, KEPT):
            return half(targets, wanted)
        wanted = wanted.split(",")
    for name in wanted:
        if name not in targets:
            raise NotFoundError(
                f"{name!r} is not among the judged targets", f"there are: {', '.join(targets)}; or say chosen or kept"
            )
    return tuple(name for name in targets if name in wanted)
