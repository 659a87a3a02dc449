"""`modelspace verify`: is the registry consistent, and the index consistent with it?

The affinity of two models follows from the stored maps, from the stored affinity, and from the inner product of the
vectors. Where two of them agree, the third is damaged. Vectors and affinities can be recomputed from the maps. Damaged
maps can't be repaired, and recomputing the rest from them would make the damage permanent, so that is never suggested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelspace import probes
from modelspace.errors import ModelspaceError
from modelspace.home import INDEX, REGISTRY
from modelspace.registry import EmbeddingRow, ProbeRow, Problem, Registry, SpaceRow, backups
from modelspace.results import Check
from modelspace.spaces import affinity, block_files, coordinates, index, proposals
from modelspace.spaces.kinds import space_of
from modelspace.spaces.probe_sets import described
from modelspace.spaces.vector_index import chosen_address, is_local
from modelspace.verbs import pending

#: Largest error of a stored affinity or of an inner product of vectors that rounding can explain.
TOLERANCE = 1e-6

#: Without `deep`, the maps of this number of models per space are compared.
SAMPLE = 5

#: Coordinates on anchors are float32 numbers, of which a small pivot amplifies the rounding.
COORDINATE_TOLERANCE = 1e-3

_REBUILD = "run `space.rebuild(coordinates=True)`"

Progress = Callable[[int, int], None]


def verify(
    home: Path, *, deep: bool, progress: Progress | None, on_check: Callable[[Check], None] | None = None
) -> list[Check]:
    """All checks, in order; see `modelspace.workspace.ModelSpace.verify`."""
    checks: list[Check] = []
    for check in _checks(home, deep, progress):
        checks.append(check)
        if on_check:
            on_check(check)
    return checks


def _checks(home: Path, deep: bool, progress: Progress | None) -> Iterator[Check]:
    with Registry.open(home / REGISTRY) as registry:
        registry.checks_rows = False  # to say what is damaged, not only that something is
        problems = registry.check()
        for problem in problems:
            yield Check(problem.subject, False, problem.message, _hint(problem.hint, registry))
        if not problems:
            yield Check("tables", True, f"{len(registry.models())} models, {len(registry.spaces())} spaces")
        if deep:
            for probe_row in registry.probe_sets():
                yield _images(registry, probe_row)
        for row in registry.spaces():
            yield from _space(registry, row, home, deep, progress)
    yield from pending.checks(home / REGISTRY)


def _hint(hint: str, registry: Registry) -> str:
    """A problem's hint; in place of the general one, the last backup."""
    return backups.advice(registry.path) if hint == Problem.hint else hint


def _images(registry: Registry, row: ProbeRow) -> Check:
    """Whether the images of a probe set match its fingerprint."""
    probe_set = described(row, row.n_images or 2)
    kind = probes.kind_of(probe_set)
    what = f"probe set {row.name}"
    pngs = [] if kind.is_rendered else registry.probe_images(row.probe_id, 0, probe_set.n_images)
    try:
        kind.require_same(probe_set, map(probes.decode_png, pngs))
    except ModelspaceError as error:
        return Check(what, False, error.message, error.hint if kind.is_rendered else backups.advice(registry.path))
    return Check(what, True, "renders the same images" if kind.is_rendered else f"{len(pngs)} stored images")


def _store(registry: Registry, row: SpaceRow, deep: bool) -> Iterator[Check]:
    """Whether the copy that queries search in is what the registry has, if they search in one."""
    if is_local():
        return
    from modelspace.spaces import milvus, milvus_client, milvus_parts

    what = f"{row.spec.name}: index at {chosen_address()}"
    try:
        store = milvus.store_at(milvus_client.Address.parse(chosen_address()))
        state, reason, _ = milvus.state_of(store, milvus_parts.Source.of(registry, row.spec.space_id), deep=deep)
    except ModelspaceError as error:
        yield Check(what, False, error.message, error.hint)
        return
    ok = state != "damaged"
    yield Check(what, ok, state + (f": {reason}" if reason else ""), "" if ok else "run `space.push_index()`")


def _copies(registry: Registry, row: SpaceRow, deep: bool) -> Iterator[Check]:
    """Whether the copies of a space's blocks are what the registry has, if there are some."""
    what = f"{row.spec.name}: copies of blocks"
    try:
        checked = block_files.check(registry, space_of(row.spec), deep=deep)
    except ModelspaceError as error:
        yield Check(what, False, error.message, error.hint)
        return
    if checked is None:
        return
    n_blocks, damaged = checked
    detail = f"{len(damaged):,} of {n_blocks:,} are damaged" if damaged else f"{n_blocks:,} blocks"
    yield Check(what, not damaged, detail, "run `space.rebuild()`" if damaged else "")


def _proposals(registry: Registry, row: SpaceRow) -> Iterator[Check]:
    """Whether what proposes sources is what was written, if there is something."""
    checked = proposals.check(registry, space_of(row.spec))
    if checked is None:
        return
    n_models, n_damaged = checked
    detail = f"{n_damaged:,} of {n_models:,} are damaged" if n_damaged else f"{n_models:,} models"
    yield Check(f"{row.spec.name}: proposals", not n_damaged, detail, "run `space.rebuild()`" if n_damaged else "")


def _space(registry: Registry, row: SpaceRow, home: Path, deep: bool, progress: Progress | None) -> Iterator[Check]:
    spec, name = row.spec, row.spec.name
    stored = registry.embeddings(spec.space_id)
    if stored:
        try:
            registry.check_positions(spec.space_id, stored)
            exact = [embedding for embedding in stored if len(embedding.vector)]
            yield from _affinities(registry, row, exact, deep, progress)
            if row.has_anchors:
                yield _coordinates(registry, row, stored, deep)
        except ModelspaceError as error:
            yield Check(f"{name}: maps", False, error.message, error.hint)
    yield from _store(registry, row, deep)
    yield from _copies(registry, row, deep)
    yield from _proposals(registry, row)
    state, reason = index.status(home / INDEX, spec.space_id, registry.registry_id, row.generation)
    if state == "newer":
        yield Check(
            f"{name}: index file",
            False,
            f"{reason}: the registry was replaced by an older copy",
            "put the newer registry back, or accept this one: `space.rebuild()`",
        )
        return
    # A stale or missing file is not an error: the next query builds it.
    yield Check(
        f"{name}: index file",
        state in ("fresh", "missing", "stale"),
        state + (f": {reason}" if reason else ""),
        "" if state == "fresh" else "run `space.rebuild()`",
    )


@dataclass
class _Comparison:
    """Stored affinities of a space against its maps, and against its vectors where the maps disagree.

    Attributes:
        pairs: number of compared pairs.
        worst: largest difference of an affinity to its maps.
        contradicted: pairs of positions whose affinity and vectors both contradict the maps. If the vectors agree with
            the maps, the affinity is damaged and the pair is not listed.
    """

    pairs: int = 0
    worst: float = 0.0
    contradicted: list[tuple[int, int]] = field(default_factory=list)

    def take(
        self, position: int, from_maps: NDArray[np.float64], stored: NDArray[np.float64], products: NDArray[np.float64]
    ) -> None:
        """Compare a model with the models before it: (m,) affinities from the maps, as stored, and from the vectors."""
        self.pairs += len(stored)
        if not len(stored):
            return
        difference = np.abs(from_maps - stored)
        self.worst = max(self.worst, float(np.nan_to_num(difference, nan=np.inf).max()))
        contradicted = ~(difference <= TOLERANCE) & ~(np.abs(from_maps - products) <= TOLERANCE)
        self.contradicted += [(int(other), position) for other in np.flatnonzero(contradicted)]

    def damaged(self) -> list[int]:
        """Positions of the models whose maps are damaged: of two that disagree, the one with more disagreements.

        Two models that disagree with each other alone are both named.
        """
        pairs, positions = set(self.contradicted), set()
        while pairs:
            counts = Counter(position for pair in pairs for position in pair)
            most, count = counts.most_common(1)[0]
            if count == 1:
                positions |= set(counts)
                break
            positions.add(most)
            # Its disagreements explain those pairs.
            pairs = {pair for pair in pairs if most not in pair}
        return sorted(positions)


def _affinities(
    registry: Registry, row: SpaceRow, stored: Sequence[EmbeddingRow], deep: bool, progress: Progress | None
) -> Iterator[Check]:
    """Vectors against stored affinities, and stored affinities against the maps."""
    spec = row.spec
    vectors = coordinates.matrix([embedding.vector for embedding in stored])
    off = _worst_product(stored, vectors)
    names = {model.model_id: model.card.name for model in registry.models()}
    changed = [names.get(i, str(i)) for i in registry.changed_embeddings(spec.space_id)]
    compared = _compared(registry, row, stored, vectors, deep, progress)
    if compared.contradicted and not deep:
        # A sample shows that maps are damaged, but only all pairs show whose.
        compared = _compared(registry, row, stored, vectors, True, progress)
    spoiled = [names.get(i, str(i)) for i in _changed_maps(registry, row, stored, deep or bool(compared.contradicted))]
    maps_hold = not compared.contradicted and not spoiled
    whole = off <= TOLERANCE and not changed
    yield Check(
        f"{spec.name}: vectors",
        whole,
        f"{len(stored)} models; largest error of an inner product {off:.1e}"
        + (f"; not what was stored: those of {_some(changed)}" if changed else ""),
        "" if whole else _REBUILD if maps_hold else backups.advice(registry.path),
    )
    detail = f"{compared.pairs} affinities recomputed; largest difference {compared.worst:.1e}"
    if maps_hold:
        agrees = compared.worst <= TOLERANCE
        yield Check(f"{spec.name}: maps", agrees, detail, "" if agrees else _REBUILD)
        return
    damaged = dict.fromkeys([*spoiled, *(names[stored[position].model_id] for position in compared.damaged())])
    reason = "the affinities were not computed from the stored maps of"
    yield Check(
        f"{spec.name}: maps",
        False,
        f"{detail}; {reason if compared.contradicted else 'not what was stored: those of'} {_some(list(damaged))}",
        f"{backups.advice(registry.path)}, or remove the model and add it again; "
        "don't use `space.rebuild(coordinates=True)`, which would rely on the damaged maps",
    )


def _changed_maps(registry: Registry, row: SpaceRow, stored: Sequence[EmbeddingRow], deep: bool) -> list[int]:
    """Models whose stored maps or kernels don't match their checksums: of all models if `deep`, else of a few."""
    ids = [stored[position].model_id for position in _positions(len(stored), deep)]
    return registry.changed_maps(row.spec.space_id, ids)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _positions(count: int, deep: bool) -> list[int]:
    """Of the models that are looked at: all if `deep`, else a few, evenly spaced."""
    return list(range(count)) if deep else [int(i) for i in np.unique(np.linspace(0, count - 1, SAMPLE).astype(int))]


def _worst_product(stored: Sequence[EmbeddingRow], vectors: NDArray[np.float64]) -> float:
    """Largest difference between an inner product of two vectors and the stored affinity, where they must be equal."""
    worst = 0.0
    exact = coordinates.is_exact(affinity.rows_of(stored))
    for position, embedding in enumerate(stored):
        earlier = _earlier(stored, embedding)
        owners = [j for j in range(len(earlier)) if exact or stored[j].axis is not None]
        if owners:
            error = np.abs(vectors[owners] @ vectors[position] - embedding.affinities[earlier[owners]])
            worst = max(worst, float(error.max()))
    return worst


def _earlier(stored: Sequence[EmbeddingRow], embedding: EmbeddingRow) -> NDArray[np.int64]:
    """Where a model's affinities to the first of the stored models are in its row, which may have gaps."""
    places = np.array([other.position for other in stored], dtype=np.int64)
    return places[places < len(embedding.affinities)]


def _coordinates(registry: Registry, row: SpaceRow, stored: Sequence[EmbeddingRow], deep: bool) -> Check:
    """Coordinates on anchors against the maps: of all models if `deep`, else of a few, evenly spaced."""
    spec, worst, wrong = row.spec, 0.0, []
    chosen = [stored[position] for position in _positions(len(stored), deep)]
    for embedding in chosen:
        blocks = affinity.stored_blocks(registry, spec, embedding.model_id)
        expected = affinity.project(registry, spec, blocks)
        stored_numbers = np.zeros(0) if embedding.coordinates is None else embedding.coordinates
        same = len(stored_numbers) == len(expected)
        difference = float(np.abs(stored_numbers - expected).max()) if same else float("inf")
        worst = max(worst, difference)
        if not difference <= COORDINATE_TOLERANCE:
            wrong.append(embedding.model_id)
    names = [registry.model_by_id(model_id).card.name for model_id in wrong[:5]]
    detail = f"{len(chosen)} of {len(stored)} models placed again; largest difference {worst:.1e}"
    return Check(
        f"{spec.name}: coordinates",
        not wrong,
        detail + (f"; not those of the maps: {', '.join(names)}" if wrong else ""),
        "" if not wrong else _REBUILD,
    )


def _compared(
    registry: Registry,
    row: SpaceRow,
    stored: Sequence[EmbeddingRow],
    vectors: NDArray[np.float64],
    deep: bool,
    progress: Progress | None,
) -> _Comparison:
    """Stored affinities against the maps: of all models if `deep`, else of a few, evenly spaced."""
    spec = row.spec
    chosen = _positions(len(stored), deep)
    out = _Comparison()
    for done, position in enumerate(chosen):
        embedding = stored[position]
        blocks = affinity.stored_blocks(registry, spec, embedding.model_id)
        places = _earlier(stored, embedding)
        count = len(places)
        earlier = [other.model_id for other in stored[:count]]
        # The model itself is included, so that missing maps of the first model are detected too.
        values = affinity.contributions(registry, spec, blocks, [*earlier, embedding.model_id])
        from_maps = np.array([values[i].mean() for i in earlier])
        out.take(position, from_maps, embedding.affinities[places], vectors[:count] @ vectors[position])
        if progress:
            progress(done + 1, len(chosen))
    return out
