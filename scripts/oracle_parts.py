"""Parts of oracles: what options were chosen on, and what was kept aside."""

from __future__ import annotations

from modelspace.evaluation import oracles, splits
from modelspace.evaluation.oracles import Oracle


def oracle_part(name: str, targets: str | None) -> Oracle:
    """An oracle on a split of the targets of `rooms`, or on all of its own.

    The split is that of `rooms`, whatever the oracle: `repainted` has only targets of one half.

    Args:
        name: of the oracle.
        targets: `splits.SELECTION`, `splits.HELD_OUT`, or None for all.
    """
    oracle = oracles.load(name)
    if targets is None:
        return oracle
    chosen = splits.split(oracles.load("rooms").targets, targets)
    return oracle.subset([target for target in oracle.targets if target in chosen], oracle.sources)
