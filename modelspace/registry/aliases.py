"""Names that stand for spaces of a certain definition, whatever those are called: `paper` and `paper+`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelspace.attribution import METHODS
from modelspace.representations.planes import EACH, MODEL, OWN_MEAN, Form
from modelspace.types import SpaceSpec

#: The first space of the published method (Song et al., NeurIPS 2019), and of its best form that was measured.
PAPER, PAPER_PLUS = "paper", "paper+"


@dataclass(frozen=True)
class Recipe:
    """A form of attribution maps, and how a space of them ranks.

    Attributes:
        method: of the maps.
        scalar: that they explain.
        form: of the maps.
        canvas: their side in pixels where none is given; not part of what the alias stands for.
        bits: per stored element, likewise.
        hubs: hubness correction of the ranking.
    """

    method: str
    scalar: str
    form: Form
    canvas: int
    bits: int
    hubs: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the space of maps: the method's defaults, and the form."""
        return {**METHODS[self.method].defaults, **self.form.parameters()}

    def is_maps(self, spec: SpaceSpec) -> bool:
        """Whether a space holds these maps."""
        return (spec.method, spec.scalar) == (self.method, self.scalar) and spec.parameters == self.parameters

    def is_ranking(self, spec: SpaceSpec, specs: Mapping[str, SpaceSpec]) -> bool:
        """Whether a space ranks by these maps alone, corrected in this way; specs: those of all spaces, by id."""
        members = spec.parameters.get("members")
        if not isinstance(members, Mapping) or len(members) != 1 or spec.parameters.get("hubs") != self.hubs:
            return False
        member: Any = next(iter(members))
        return spec.parameters.get("rerank") == "none" and member in specs and self.is_maps(specs[member])


#: Chosen by scripts/measure_attribution.py (docs/lab-book/attribution.md).
PLUS = Recipe("sensitivity", "sum", Form(EACH, centring=OWN_MEAN, scale=MODEL), 32, 8, "csls")


def find(alias: str, specs: Sequence[SpaceSpec]) -> SpaceSpec | None:
    """The first space that an alias stands for, if there is one, and if it is an alias.

    Args:
        alias: `PAPER` is gradient*input of ΣT in the paper's form, `PAPER_PLUS` what `PLUS` says; else none.
        specs: all spaces.
    """
    if alias == PAPER:
        return next((spec for spec in specs if _is_paper(spec)), None)
    if alias == PAPER_PLUS:
        by_id = {spec.space_id: spec for spec in specs}
        return next((spec for spec in specs if PLUS.is_ranking(spec, by_id)), None)
    return None


def _is_paper(spec: SpaceSpec) -> bool:
    return (spec.method, spec.scalar) == ("gradient_x_input", "sum") and not spec.parameters
