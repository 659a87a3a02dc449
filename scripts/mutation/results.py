"""The outcomes of the mutants of a module, and the share that its tests kill."""

from __future__ import annotations

from dataclasses import dataclass

from mutation.modules import EQUIVALENT
from mutation.trials import Outcome

#: Share of the mutants that a module's tests should kill.
GOAL = 0.85


@dataclass(frozen=True)
class Result:
    """The outcomes of one module.

    Attributes:
        module: path in modelspace/.
        total: number of mutants that the module has.
        outcomes: of those that were tried.
        seconds: taken.
    """

    module: str
    total: int
    outcomes: list[Outcome]
    seconds: float

    @property
    def survivors(self) -> list[Outcome]:
        """Mutants that no test notices, although they compute something else."""
        return [o for o in self.outcomes if not o.is_killed and not self.why_equivalent(o)]

    @property
    def equivalent(self) -> list[Outcome]:
        """Mutants that no test can notice."""
        return [o for o in self.outcomes if not o.is_killed and self.why_equivalent(o)]

    @property
    def killed(self) -> int:
        """Number of mutants that the tests notice."""
        return sum(o.is_killed for o in self.outcomes)

    @property
    def share(self) -> float:
        """Killed among those that can be: 0..1."""
        possible = len(self.outcomes) - len(self.equivalent)
        return self.killed / possible if possible else 1.0

    def why_equivalent(self, outcome: Outcome) -> str | None:
        """Why a mutant does what the module does, if it does."""
        return EQUIVALENT.get((self.module, outcome.mutant.function, outcome.mutant.change))


def described(outcome: Outcome) -> str:
    """Where a mutant is, and what it changes."""
    return f"line {outcome.mutant.line}, {outcome.mutant.function}: {outcome.mutant.change}"
