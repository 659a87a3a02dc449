"""Comparing two registered models in each space: affinity, how well either predicts the other, common cluster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from modelspace.analysis.tree import Tree, build_tree
from modelspace.errors import NotFoundError, UsageError
from modelspace.registry import ModelRow, Registry, SpaceRow
from modelspace.results import Compared, Neighbour
from modelspace.spaces import affinity
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import Ranking

#: Largest number of models in a tree that is built for a comparison: for 2,000 it takes about a second.
MOST_IN_TREE = 2000


def compare(path: Path, a: str, b: str, *, space: str | None = None, method: str = "average") -> list[Compared]:
    """See `modelspace.workspace.ModelSpace.compare`."""
    with Registry.open(path) as registry:
        first, second = registry.model(a), registry.model(b)
        if first.model_id == second.model_id:
            raise UsageError(f"{a!r} can't be compared with itself", "name another model")
        rows = registry.spaces() if space is None else [registry.space(space)]
        shared = [row for row in rows if row.spec.name in first.spaces and row.spec.name in second.spaces]
        if not shared:
            where = "no space holds" if space is None else f"the space {rows[0].spec.name!r} does not hold"
            raise NotFoundError(
                f"{where} both {a!r} and {b!r}",
                f"their spaces are {', '.join(first.spaces) or 'none'}, and {', '.join(second.spaces) or 'none'}",
            )
        names = {model.model_id: model.card.name for model in registry.models()}
        return [_compared(registry, row, first, second, method, names) for row in shared]


def _compared(
    registry: Registry, row: SpaceRow, first: ModelRow, second: ModelRow, method: str, names: Mapping[int, str]
) -> Compared:
    ranking = Ranking.of(row.spec)
    forth, back = (
        _ranked(registry, row, ranking, target, source) for target, source in ((second, first), (first, second))
    )
    # Without a score of either, the affinity alone, which needs no kernels.
    known = back or forth or _ranked(registry, row, Ranking(), first, second)
    assert known is not None
    compared = Compared(
        space=row.spec.name,
        affinity=known.affinity,
        low=known.low,
        high=known.high,
        ranked_by=ranking.label,
        a_to_b=None if forth is None else forth.score,
        b_to_a=None if back is None else back.score,
        height=None,
        with_a=(),
        with_b=(),
        n_models=row.n_models,
    )
    if row.n_models > MOST_IN_TREE:
        return compared
    ids, matrix = affinity.matrix(registry, row.spec, set(names))
    height, with_a, with_b = merge(
        build_tree([names[i] for i in ids], matrix, method), first.card.name, second.card.name
    )
    return replace(compared, height=height, with_a=with_a, with_b=with_b)


def _ranked(
    registry: Registry, row: SpaceRow, ranking: Ranking, target: ModelRow, source: ModelRow
) -> Neighbour | None:
    """The source as the target's only candidate; None if the ranking can't score it."""
    with suppress(NotFoundError):
        ranker = Ranker(registry, row, ranking, {source.model_id})
        records = ranker.rank(Target(target.card.name, target.model_id), 1).records({source.model_id: source}, 1)
        return records[0] if records else None
    return None


def merge(tree: Tree, a: str, b: str) -> tuple[float, tuple[str, ...], tuple[str, ...]]:
    """Where a tree merges two models: the height, and the two clusters that are merged, that of `a` first.

    >>> from modelspace.analysis.tree import build_tree
    >>> merge(build_tree(["x", "y", "z"], [[1, 0.9, 0.5], [0.9, 1, 0.5], [0.5, 0.5, 1]], "average"), "z", "x")
    (1.0, ('z',), ('x', 'y'))
    """
    leaves = {name: i for i, name in enumerate(tree.names)}
    below = [{i} for i in range(tree.n_leaves)]
    for left, right, height in tree.linkage[:, :3]:
        parts = below[int(left)], below[int(right)]
        if leaves[a] in parts[1]:
            parts = parts[1], parts[0]
        if leaves[a] in parts[0] and leaves[b] in parts[1]:
            with_a, with_b = (tuple(tree.names[i] for i in sorted(part)) for part in parts)
            return float(height), with_a, with_b
        below.append(parts[0] | parts[1])
    raise ValueError(f"{a} and {b} are not in the tree")
