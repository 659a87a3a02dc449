"""How a space ranks: by the affinity itself, corrected for hubs, or re-ranked by how well features predict the target's."""

from __future__ import annotations

from dataclasses import dataclass

from modelspace.errors import UsageError
from modelspace.names import did_you_mean
from modelspace.spaces import hubness, predictability
from modelspace.types import SpaceSpec


@dataclass(frozen=True)
class Ranking:
    """A way of ranking transfer sources.

    Attributes:
        correction: for hubs, one of `hubness.CORRECTIONS`.
        rerank: of the candidates, one of `predictability.RERANKINGS`; it decides the order where it is not "none".

    Raises:
        UsageError: there is no such correction or re-ranking.
    """

    correction: str = hubness.NONE
    rerank: str = predictability.NONE

    def __post_init__(self) -> None:
        for value, known, flag in (
            (self.correction, hubness.CORRECTIONS, "--hubs"),
            (self.rerank, predictability.RERANKINGS, "--rerank"),
        ):
            if value not in known:
                raise UsageError(f"{flag} {value} is not known", did_you_mean(value, known, f"use {', '.join(known)}"))

    @classmethod
    def of(cls, spec: SpaceSpec, hubs: str | None = None, rerank: str | None = None) -> Ranking:
        """As asked for, else as the space says, else plainly by affinity.

        Raises:
            UsageError: there is no such correction or re-ranking.
        """
        return cls(
            hubs or str(spec.parameters.get("hubs", hubness.NONE)),
            rerank or str(spec.parameters.get("rerank", predictability.NONE)),
        )

    @property
    def is_directed(self) -> bool:
        return self.rerank == predictability.DIRECTED

    @property
    def is_corrected(self) -> bool:
        return self.correction != hubness.NONE

    @property
    def is_plain(self) -> bool:
        """Whether the score is the affinity itself."""
        return not self.is_directed and not self.is_corrected

    @property
    def label(self) -> str:
        """What decides the order: "affinity", a correction or a re-ranking."""
        return self.rerank if self.is_directed else self.correction if self.is_corrected else "affinity"

    @property
    def words(self) -> str:
        """The settings that are not the plain ones, as in "csls directed"; "" for a plain ranking."""
        return " ".join(word for word in (self.correction, self.rerank) if word != "none")


#: By the affinity itself.
PLAIN = Ranking()
