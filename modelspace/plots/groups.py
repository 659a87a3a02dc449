"""Colours and shapes of groups: the same group looks the same in every picture. Numbers have a scale of colours.

Eight colours that remain distinct with protanopia, deuteranopia and tritanopia (a test simulates them), each with a
shape, so that groups can be told apart in a gray print. The first four also differ in lightness.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from modelspace.errors import UsageError
from modelspace.names import printable
from modelspace.plots.scale import LEAST, Scale, colour

#: The groups of models, by name or in order: texts, or numbers, or None for a model without one.
Groups: TypeAlias = Mapping[str, str | float | None] | Sequence[str | float | None] | None

#: (colour, matplotlib marker), in the order of assignment to groups.
CYCLE = (
    ("#3465B0", "o"),
    ("#F0A030", "^"),
    ("#1A9A7C", "s"),
    ("#7A0F45", "D"),
    ("#D9364A", "P"),
    ("#B7A6E0", "v"),
    ("#15151F", "X"),
    ("#7F6A00", "p"),
)

#: The groups of the paper's figures always look like this.
TASKONOMY = ("2D", "3D", "geometric", "semantic")

#: Groups beyond the cycle, and models without a group.
OTHER, NO_GROUP, NO_VALUE = "other", "no group", "no value"
_OTHER_LOOK = ("#8F8F8F", "h")
_NO_GROUP_LOOK = ("#A8A8A8", ".")


@dataclass(frozen=True)
class GroupLook:
    """How a group is drawn.

    Attributes:
        label: the group's name in a legend.
        colour: "#RRGGBB".
        marker: a matplotlib marker.
        count: number of models in the group.
    """

    label: str
    colour: str
    marker: str
    count: int

    @property
    def area(self) -> float:
        """Factor of the marker area that makes all shapes look equally large."""
        return {"D": 0.72, "P": 1.15, "X": 1.1, ".": 2.2, "s": 0.9, "h": 1.1, "p": 1.15}.get(self.marker, 1.0)


def group_looks(groups: Sequence[str | None]) -> tuple[list[GroupLook], list[GroupLook]]:
    """Looks for a list of groups.

    The paper's groups have fixed colours and shapes. Other groups get the free ones, in alphabetical order; if there
    are too many, the largest groups get one each and the others are combined as "other".

    Args:
        groups: the group of each of n models, or None.

    Returns:
        The look of each of the n models, and the distinct looks in legend order.
    """
    counts = Counter(group for group in groups if group is not None)
    fixed = [name for name in TASKONOMY if name in counts]
    free = [look for look, name in zip(CYCLE, TASKONOMY, strict=False) if name not in counts] + list(CYCLE[4:])
    named = sorted((name for name in counts if name not in TASKONOMY), key=lambda name: (-counts[name], name))
    largest, others = sorted(named[: len(free)]), named[len(free) :]

    looks = {name: GroupLook(name, *CYCLE[TASKONOMY.index(name)], counts[name]) for name in fixed}
    looks |= {name: GroupLook(name, *look, counts[name]) for name, look in zip(largest, free, strict=False)}
    legend = list(looks.values())
    if others:
        other = GroupLook(OTHER, *_OTHER_LOOK, sum(counts[name] for name in others))
        legend.append(other)
        looks |= dict.fromkeys(others, other)
    n_ungrouped = sum(group is None for group in groups)
    ungrouped = GroupLook(NO_GROUP, *_NO_GROUP_LOOK, n_ungrouped)
    if n_ungrouped and counts:
        legend.append(ungrouped)
    return [ungrouped if group is None else looks[group] for group in groups], legend


@dataclass(frozen=True)
class Colouring:
    """How the models of a picture are coloured: by group, or by a number.

    Attributes:
        looks: the look of each of the n models.
        kinds: the distinct looks, in the order of the legend; empty if no model has a group.
        scale: of the numbers; None for groups.
    """

    looks: list[GroupLook]
    kinds: list[GroupLook]
    scale: Scale | None = None

    @classmethod
    def of(cls, names: Sequence[str], groups: Groups, label: str = "") -> Colouring:
        """The colouring of models by their groups; by a scale if those are numbers, at least `LEAST` different ones.

        Args:
            names: n model names.
            groups: of the models.
            label: what the groups are; printed beside the scale.

        Raises:
            UsageError: the list of groups has another length.
        """
        values = in_order(names, groups)
        numbers = [_number(value) for value in values]
        n_different = len({number for number in numbers if number is not None})
        if n_different < LEAST or any(isinstance(value, str) for value in values):
            return cls(*group_looks(as_list(names, groups)))
        return cls._of_numbers(numbers, label)

    @classmethod
    def _of_numbers(cls, values: Sequence[float | None], label: str) -> Colouring:
        scale = Scale.of([value for value in values if value is not None], label)
        steps = [None if value is None else scale.step(value) for value in values]
        counts = Counter(steps)
        kinds = {
            step: GroupLook(f"{label} {step}".strip(), colour(step), "o", counts[step])
            for step in sorted(step for step in counts if step is not None)
        }
        unknown = GroupLook(NO_VALUE, *_NO_GROUP_LOOK, counts[None])
        looks = [unknown if step is None else kinds[step] for step in steps]
        return cls(looks, [*kinds.values(), *([unknown] if counts[None] else [])], scale)

    def reordered(self, order: Sequence[int]) -> Colouring:
        """The same colours, with model `order[i]` as number i."""
        return replace(self, looks=[self.looks[i] for i in order])


def as_list(names: Sequence[str], groups: Groups) -> list[str | None]:
    """Groups in the order of the names, from a mapping, a list of the same length, or nothing; numbers as texts."""
    return [_shown(group) for group in in_order(names, groups)]


def in_order(names: Sequence[str], groups: Groups) -> list[str | float | None]:
    """Groups in the order of the names, from a mapping, a list of the same length, or nothing."""
    if groups is None:
        return [None] * len(names)
    if isinstance(groups, Mapping):
        return [groups.get(name) for name in names]
    if len(groups) != len(names):
        raise UsageError(
            f"there are {len(groups)} groups for {len(names)} models", "give one group, or None, per model"
        )
    return list(groups)


def _number(value: str | float | None) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shown(group: str | float | None) -> str | None:
    return None if group is None else printable(str(group))
