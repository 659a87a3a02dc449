"""A short table of two lists of names that should be equal: similar names, and names on one side only."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

#: Largest number of lines.
LINES = 12

#: Longest name that is shown in full.
_WIDTH = 44

#: Smallest similarity, 0..1, of two groups that are shown next to each other.
_ALIKE = 0.55

#: Label of a group, and its (name, shape) pairs.
Group = tuple[str, list[tuple[str, str]]]


def table(module: Mapping[str, str], file: Mapping[str, str]) -> list[str]:
    """Lines with the names of the module and of the file side by side, in groups with their sizes.

    Args:
        module: names that the file lacks, with their shapes as text.
        file: names that the module lacks, likewise.

    >>> print("\\n".join(table({"fc.weight": "2x4", "fc.bias": "2"}, {"head.weight": "2x4", "head.bias": "2"})))
    the module needs       the file has
    fc.weight (2x4)    ~   head.weight (2x4)
    fc.bias (2)        ~   head.bias (2)
    """
    for spelled in _SPELLINGS:
        ours, theirs = _grouped(module, spelled), _grouped(file, spelled)
        if max(len(ours), len(theirs)) > LINES:
            continue
        rows = _side_by_side(ours, theirs)
        if len(rows) <= LINES:
            break
    else:
        ours, theirs = _grouped(module, _SPELLINGS[-1]), _grouped(file, _SPELLINGS[-1])
        rows = _side_by_side(ours[: LINES // 2], theirs[: LINES // 2])
        more = [f"and {len(groups) - LINES // 2} more" if len(groups) > LINES // 2 else "" for groups in (ours, theirs)]
        rows.append((more[0], "", more[1]))
    rows = [("the module needs", " ", "the file has"), *rows]
    width = max(len(row[0]) for row in rows)
    return [f"{left:{width}}  {sign:^3}  {right}".rstrip() for left, sign, right in rows]


def _plain(name: str) -> str:
    return name


def _numberless(name: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _cut(depth: int) -> Callable[[str], str]:
    def spelled(name: str) -> str:
        *parents, last = _numberless(name).split(".")
        return f"{'.'.join(parents[:depth]).removesuffix('.*')}.*" if parents else last

    return spelled


#: From the finest to the coarsest: whole names, names without numbers, their first parts.
_SPELLINGS: Sequence[Callable[[str], str]] = (_plain, _numberless, _cut(4), _cut(3), _cut(2), _cut(1))


def _grouped(names: Mapping[str, str], spelled: Callable[[str], str]) -> list[Group]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, shape in names.items():
        groups.setdefault(spelled(name), []).append((name, shape))
    # A group of one is shown by its full name.
    return [(entries[0][0] if len(entries) == 1 else group, entries) for group, entries in groups.items()]


def _side_by_side(ours: Sequence[Group], theirs: Sequence[Group]) -> list[tuple[str, str, str]]:
    """Rows: the module's group, a sign, and the most similar group of the file."""
    scores = sorted(
        ((_likeness(a, b), i, j) for i, a in enumerate(ours) for j, b in enumerate(theirs)),
        key=lambda s: (-s[0], *s[1:]),
    )
    partner: dict[int, int] = {}
    for score, i, j in scores:
        if score >= _ALIKE and i not in partner and j not in partner.values():
            partner[i] = j
    rows = [
        (_label(group), "~", _label(theirs[partner[i]])) if i in partner else (_label(group), "", "-")
        for i, group in enumerate(ours)
    ]
    return rows + [("-", "", _label(group)) for j, group in enumerate(theirs) if j not in partner.values()]


def _likeness(a: Group, b: Group) -> float:
    """Similarity, 0..1, of the names, the numbers of entries, and their last parts and shapes."""
    names = difflib.SequenceMatcher(None, a[0], b[0]).ratio()
    ours, theirs = (Counter((n.rpartition(".")[2], s) for n, s in group[1]) for group in (a, b))
    entries = (ours & theirs).total() / max(ours.total(), theirs.total())
    shapes = (Counter(s for _, s in a[1]) & Counter(s for _, s in b[1])).total() / max(len(a[1]), len(b[1]))
    return 0.4 * names + 0.4 * entries + 0.2 * shapes if entries or shapes == 1.0 else 0.0


def _label(group: Group) -> str:
    name, entries = group
    shown = name if len(name) <= _WIDTH else f"{name[: _WIDTH // 2 - 2]}...{name[-_WIDTH // 2 + 1 :]}"
    return f"{shown} ({entries[0][1]})" if len(entries) == 1 else f"{shown} ({len(entries)} tensors)"
