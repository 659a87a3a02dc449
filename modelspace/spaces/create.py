"""Creating the spaces of a registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelspace import names, probes
from modelspace.deprecated import renamed
from modelspace.errors import ConflictError, UsageError
from modelspace.probes.base import DEFAULT_IMAGES
from modelspace.registry import ProbeRow, Registry
from modelspace.registry.aliases import PAPER_PLUS, PLUS
from modelspace.representations.planes import NAMES as FORM_PARAMETERS
from modelspace.representations.planes import Form
from modelspace.spaces import affinity, predictability, rerankings
from modelspace.spaces.cost import check_memory, cost
from modelspace.spaces.defaults import DEFAULT_CANVAS as DEFAULT_CANVAS
from modelspace.spaces.defaults import DEFAULT_METHODS as DEFAULT_METHODS
from modelspace.spaces.kinds import LOCAL, BlendSpace, GridSpace, MapSpace, Space, kind_of, space_of
from modelspace.spaces.probe_sets import Pictures, ProbeChoice, choose_probe_set, ensure_registry, with_free_name
from modelspace.spaces.ranking import Ranking
from modelspace.spaces.views import views
from modelspace.types import SpaceSpec

#: Called with a sentence on what a large number of probe images costs; an exception that it raises stops the creation.
OnCost = Callable[[str], None]

#: The method of the other standard space, and the name of the space over it that queries use.
STANDARD_KERNELS, STANDARD_BLEND = "dds", "transfer"

#: The usual name of the space that the alias `paper+` stands for; no space can be called "paper+" itself.
PLUS_BLEND = "paper-plus"

#: The form of maps unless another is chosen.
PAPERS_FORM = Form()
DEFAULT_BITS = MapSpace.default_bits


def create(
    path: Path,
    choice: ProbeChoice,
    methods: Sequence[str] | None,
    canvas: int | None,
    bits: int | None,
    name: str | None,
    default: bool,
    scalar: str,
    form: Mapping[str, Any] | None,
    on_cost: OnCost | None,
) -> list[str]:
    """Create the named methods' spaces, `paper+`, or the standard ones; see `modelspace.workspace.ModelSpace.init`."""
    plain = methods is None and scalar == "sum" and not form
    if name == PAPER_PLUS:
        if not plain:
            raise UsageError(
                "paper+ has its own method, scalar and form", "leave `methods=` and `scalar=` out, and the form"
            )
        return create_paper_plus(path, choice, canvas, bits, default, on_cost)
    canvas = DEFAULT_CANVAS if canvas is None else canvas
    if plain and name is None:
        return create_standard(path, choice, canvas, bits, default, on_cost)
    if unknown := sorted(set(form or {}) - set(FORM_PARAMETERS)):
        raise UsageError(f"a map's form has no {unknown[0]!r}", f"a form takes {', '.join(FORM_PARAMETERS)}")
    return create_spaces(
        path, choice, methods or DEFAULT_METHODS, canvas, bits, name, default, scalar, on_cost, Form.of(form or {})
    )


def create_spaces(
    path: Path,
    choice: ProbeChoice,
    methods: Sequence[str],
    canvas: int,
    bits: int | None,
    name: str | None,
    default: bool,
    scalar: str = "sum",
    on_cost: OnCost | None = None,
    form: Form = PAPERS_FORM,
) -> list[str]:
    """Create the spaces that do not exist yet, and the registry if needed; returns the names of all of them."""
    kinds = {method: kind_of(method) for method in methods}
    if not methods or (name is not None and len(methods) != 1):
        raise UsageError("a name is for one space, made by one method", "create named spaces one by one")
    if name is not None:
        names.check_name(name, "space")
    # Refuse impossible combinations before a probe set is rendered or read.
    drafts = [
        _in_form(kind.define(name or _usual_name(method, scalar, form), method, "", 1, canvas, bits, scalar), form)
        for method, kind in kinds.items()
    ]
    for draft in drafts:
        space_of(draft)
    _check_count(choice.images, kinds)
    if choice.images is not None:
        _check_cost([replace(draft, n_images=choice.images) for draft in drafts], choice, on_cost)
    row, pictures = choose_probe_set(path, choice)
    count = _image_count(choice, row, least=max(kind.least_images for kind in kinds.values()))
    specs = [replace(draft, probe_id=row.probe_id, n_images=count) for draft in drafts]
    ensure_registry(path)
    with Registry.open(path, write=True) as registry, registry.transaction():
        return _add_spaces(registry, row, pictures, specs, named=name is not None, default=default)


def _check_count(images: int | None, kinds: Mapping[str, type[Space]]) -> None:
    """Refuse more images than a kind can have, before any is rendered or read."""
    method = min(kinds, key=lambda name: kinds[name].most_images)
    if images is not None and images > (most := kinds[method].most_images):
        others = [name for name in DEFAULT_METHODS if kinds.keys() - {name} and most < MapSpace.most_images]
        alone = f"; `methods={others!r}` alone takes more" if others else ""
        raise UsageError(
            f"a space with method {method} can't have {images:,} probe images: {most:,} at most",
            f"a few hundred suffice, 200 are the default: `images=200`{alone}",
        )


def _check_cost(specs: Sequence[SpaceSpec], choice: ProbeChoice, on_cost: OnCost | None) -> None:
    """Refuse what the memory can't hold, and ask about what takes long."""
    rendered = not isinstance(choice.source, str | Path) or choice.source in probes.RENDERED
    estimate = cost(specs, rendered=rendered)
    check_memory(estimate)
    if on_cost is not None and estimate.is_large:
        on_cost(str(estimate))


def _usual_name(method: str, scalar: str, form: Form) -> str:
    parts = [method] if scalar == "sum" else [method, scalar]
    return "-".join([*parts, *(f"{value}" for value in form.parameters().values())])


def _in_form(spec: SpaceSpec, form: Form) -> SpaceSpec:
    """The definition with maps of this form.

    Raises:
        UsageError: it has no maps.
    """
    if form != PAPERS_FORM and not space_of(spec).has_maps:
        raise UsageError(f"a space of {spec.method} has no maps whose form could be chosen", "leave the form out")
    return replace(spec, parameters={**spec.parameters, **form.parameters()})


def _image_count(choice: ProbeChoice, row: ProbeRow, least: int) -> int:
    """The number of probe images of a space.

    Raises:
        UsageError: too few to compare models, or more than the set has.
    """
    count = choice.images if choice.images is not None else min(DEFAULT_IMAGES, row.n_images or DEFAULT_IMAGES)
    if count < least or (row.n_images is not None and count > row.n_images):
        reason = (
            f"probe set {row.name!r} has {row.n_images}" if row.n_images is not None else f"at least {least} are needed"
        )
        raise UsageError(f"a space can't have {count} probe images: {reason}", "choose another number with `images=`")
    return count


def _add_spaces(
    registry: Registry, row: ProbeRow, pictures: Pictures, specs: Sequence[SpaceSpec], *, named: bool, default: bool
) -> list[str]:
    """Write the spaces that the registry lacks, and their probe set if it is new; returns the names of all of them."""
    known = {space.spec.space_id: space.spec.name for space in registry.spaces()}
    sets = registry.probe_sets()
    if row.probe_id not in {probe.probe_id for probe in sets}:
        row = with_free_name(row, {probe.name for probe in sets})
        registry.add_probe_set(row, pictures)
    for spec in specs:
        if spec.space_id not in known:
            spec = _with_free_name(spec, set(known.values()), row, explicit=named)
            registry.add_space(spec, default=not known)
            known[spec.space_id] = spec.name
    if default:
        registry.set_default_space(known[specs[0].space_id])
    return [known[spec.space_id] for spec in specs]


def create_standard(
    path: Path, choice: ProbeChoice, canvas: int, bits: int | None, default: bool, on_cost: OnCost | None = None
) -> list[str]:
    """Create the standard spaces on a probe set; returns their names.

    They are the paper's gradient*input, kernels of the features (dds), the features on a grid of places (local), and
    `transfer`, which has the affinities of dds and ranks by how well a source's features, of whole images and place by
    place, predict the target's. `transfer` is the default space of a new registry: of the rankings tried, it agreed
    best with measured transfer on data not used to choose it, and in the zoo it retrieves models of the same task as
    well as gradient*input (docs/lab-book/evaluation.md; of others' networks, docs/lab-book/real-tasks.md). With too few
    images for it, gradient*input is the default.
    """
    new = not path.exists()
    if not new:
        with Registry.open(path) as registry:
            new = not registry.spaces()
    _check_count(choice.images, {name: kind_of(name) for name in (*DEFAULT_METHODS, STANDARD_KERNELS)})
    created = create_spaces(path, choice, DEFAULT_METHODS, canvas, bits, None, default, on_cost=on_cost)
    created += create_spaces(path, choice, (STANDARD_KERNELS,), canvas, None, None, False)
    kernels = created[-1]
    with Registry.open(path) as registry:
        spec = registry.space(kernels).spec
        row = registry.probe_set(spec.probe_id)
    if spec.n_images < 2 * predictability.FOLDS:
        return created
    grids = GridSpace.define(LOCAL, LOCAL, row.probe_id, min(spec.n_images, GridSpace.usual_images), 0, None, "sum")
    with Registry.open(path, write=True) as registry, registry.transaction():
        created += _add_spaces(registry, row, None, [grids], named=False, default=False)
    ranking = Ranking(rerank=rerankings.COMBINED)
    return [_create_ranking(path, STANDARD_BLEND, kernels, ranking, default or new), *created]


def create_paper_plus(
    path: Path, choice: ProbeChoice, canvas: int | None, bits: int | None, default: bool, on_cost: OnCost | None = None
) -> list[str]:
    """Create the best form of attribution maps that was measured, as `PLUS` has it; returns the names of its spaces.

    They are a blend that ranks, which the alias `paper+` stands for, and the space of maps that it ranks by.
    """
    created = create_spaces(
        path,
        choice,
        (PLUS.method,),
        canvas or PLUS.canvas,
        bits or PLUS.bits,
        None,
        False,
        PLUS.scalar,
        on_cost,
        PLUS.form,
    )
    return [_create_ranking(path, PLUS_BLEND, created[0], Ranking(PLUS.hubs), default), *created]


def _create_ranking(path: Path, usual_name: str, member: str, ranking: Ranking, default: bool) -> str:
    """Create a blend of one space, which gives it another ranking, under a free name; returns its name."""
    with Registry.open(path) as registry:
        spec = registry.space(member).spec
        row = registry.probe_set(spec.probe_id)
        taken = {space.spec.name: space.spec for space in registry.spaces()}
    blend = BlendSpace.of(usual_name, [(spec, 1.0)], ranking.correction, ranking.rerank)
    existing = next((name for name, other in taken.items() if other.space_id == blend.space_id), None)
    candidates = (usual_name, f"{usual_name}-{row.name}", f"{usual_name}-{spec.space_id}")
    name = existing or next(name for name in candidates if name not in taken)
    return create_blend(path, name, {member: 1.0}, ranking, default)


def create_blend(path: Path, name: str, members: Mapping[str, float], ranking: Ranking, default: bool) -> str:
    """Create a blend of spaces and add the models that all of them hold; returns its name.

    Raises:
        UsageError: no members, a weight that is not positive, members that are blends or have different probe images,
            or a ranking that re-ranks and is corrected for hubs.
        NotFoundError: a member does not exist, or the kernels that the ranking needs don't.
        ConflictError: another space has the name.
    """
    names.check_name(name, "space")
    ranking.check_corrected()
    if not members or not all(math.isfinite(weight) and weight > 0 for weight in members.values()):
        raise UsageError(
            "a blend needs spaces with positive weights", "example: `members={'dds': 0.5, 'gradient_x_input': 0.5}`"
        )
    with Registry.open(path, write=True) as registry, registry.transaction():
        weighted = [(registry.space(member).spec, weight) for member, weight in members.items()]
        spec = BlendSpace.of(name, weighted, ranking.correction, ranking.rerank)
        views(registry, spec, ranking.rerank)  # raises if a space is missing
        existing = next((row.spec.name for row in registry.spaces() if row.spec.space_id == spec.space_id), None)
        if existing is None:
            registry.add_space(spec, default=default)
            affinity.fill(registry, spec)
        elif default:
            registry.set_default_space(existing)
    return existing or name


def _with_free_name(spec: SpaceSpec, taken: set[str], row: ProbeRow, *, explicit: bool) -> SpaceSpec:
    """The definition with a name not yet taken; a name that the caller chose is never changed silently."""
    if spec.name not in taken:
        return spec
    if explicit:
        raise ConflictError(f"space {spec.name!r} exists with another definition", "choose another name")
    candidates = (
        f"{spec.method}-{row.name}",
        f"{spec.method}-{row.name}-{spec.n_images}x{spec.canvas}-{spec.bits}bit",
    )
    return replace(
        spec, name=next((name for name in candidates if name not in taken), f"{spec.method}-{spec.space_id}")
    )


__getattr__ = renamed(
    __name__,
    {
        name: f"modelspace.spaces.probe_sets.{name}"
        for name in ("DEFAULT_PROBES", "Images", "ProbeChoice", "create_probes", "images", "new_probe_set")
    },
)
