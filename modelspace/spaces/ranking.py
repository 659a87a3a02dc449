"""How a space ranks: by affinity, by affinity corrected for hubs, or by another score of the same features."""

from __future__ import annotations

from modelspace.errors import UsageError
from modelspace.late import dataclass
from modelspace.names import did_you_mean
from modelspace.spaces import hubness, predictability, rerankings
from modelspace.types import SpaceSpec


@dataclass(frozen=True)
class Ranking:
    """A way of ranking transfer sources.

    Attributes:
        correction: hubness correction, one of `hubness.CORRECTIONS`.
        rerank: how candidates are re-ranked, one of `rerankings.RERANKINGS`; unless "none", it decides the order.

    Raises:
        UsageError: unknown correction or re-ranking.
    """

    correction: str = hubness.NONE
    rerank: str = predictability.NONE

    def __post_init__(self) -> None:
        for value, known, name in (
            (self.correction, hubness.CORRECTIONS, "hubs"),
            (self.rerank, rerankings.RERANKINGS, "rerank"),
        ):
            if value not in known:
                raise UsageError(
                    f"`{name}={value!r}` is not known", did_you_mean(value, known, f"use {', '.join(known)}")
                )

    @classmethod
    def of(cls, spec: SpaceSpec, hubs: str | None = None, rerank: str | None = None) -> Ranking:
        """The ranking asked for; where none is, the space's default; where it has none, plain affinity.

        Raises:
            UsageError: unknown correction or re-ranking, or a correction of a ranking that re-ranks.
        """
        ranking = cls(
            hubs or str(spec.parameters.get("hubs", hubness.NONE)),
            rerank or str(spec.parameters.get("rerank", predictability.NONE)),
        )
        if hubs is not None:
            ranking.check_corrected(f"space {spec.name!r}" if rerank is None else "")
        return ranking

    def check_corrected(self, whose: str = "") -> None:
        """Refuse a hub correction of a ranking that re-ranks: it would at most choose candidates, and not their order.

        Args:
            whose: the space whose own ranking it is, for the message.

        Raises:
            UsageError: it is both.
        """
        if self.is_reranked and self.is_corrected:
            raise UsageError(
                f"`hubs={self.correction!r}` corrects affinities, and {whose or 'this ranking'} ranks by {self.order}",
                "leave it out, or rank by corrected affinity with `rerank='none'`",
            )

    @property
    def is_reranked(self) -> bool:
        """Whether candidates are re-ranked, by a score that needs kernels of their features."""
        return self.rerank != predictability.NONE

    @property
    def is_directed(self) -> bool:
        """Whether candidates are re-ranked by how well their features predict the target's."""
        return self.rerank in rerankings.PREDICTING

    @property
    def is_corrected(self) -> bool:
        """Whether affinities are corrected for hubs."""
        return self.correction != hubness.NONE

    @property
    def is_plain(self) -> bool:
        """Whether the score is the affinity itself."""
        return not self.is_reranked and not self.is_corrected

    @property
    def label(self) -> str:
        """What decides the order: "affinity", or the name of the correction or re-ranking."""
        return self.rerank if self.is_reranked else self.correction if self.is_corrected else "affinity"

    @property
    def order(self) -> str:
        """What decides the order, in words."""
        if self.is_directed:
            return "how well features predict the target's"
        if self.is_reranked:
            return f"{self.rerank}, a similarity of kernels"
        return f"affinity corrected for hubs ({self.correction})" if self.is_corrected else "affinity"

    @property
    def settings(self) -> str:
        """The settings other than "none", as in "csls directed"; "" for a plain ranking."""
        return " ".join(setting for setting in (self.correction, self.rerank) if setting != "none")


#: Ranks by affinity alone.
PLAIN = Ranking()
