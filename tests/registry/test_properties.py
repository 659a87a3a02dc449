"""Random sequences of changes and reopenings, against a plain dictionary."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import shelf
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelspace.errors import ConflictError, NotFoundError
from modelspace.registry import EmbeddingRow, Registry

POOL = shelf.units(12)  # a model's unit vector follows from its number
SPACES = (shelf.GI, shelf.SALIENCY)


class RegistryMachine(RuleBasedStateMachine):
    """`self.model` maps a name to (id, index of its unit vector, task, first name), in order of registration."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "registry.duckdb"
        shelf.make(self.path, *SPACES)
        self.model: dict[str, tuple[int, int, str | None, str]] = {}
        self.last_id = 0
        self.registry = Registry.open(self.path, write=True)

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()
            self.folder.cleanup()

    def coordinates(self) -> list[EmbeddingRow]:
        ids = [entry[0] for entry in self.model.values()]
        return shelf.rows(POOL[[entry[1] for entry in self.model.values()]], ids)

    def _add(self, name: str) -> None:
        used = {entry[1] for entry in self.model.values()}
        number = next(i for i in range(len(POOL)) if i not in used)
        model_id = self.registry.add_model(shelf.card(name))
        assert model_id > self.last_id
        self.last_id = model_id
        self.model[name] = (model_id, number, f"task of {name}", name)
        for space in SPACES:
            self.registry.add_embedding(space.space_id, self.coordinates()[-1], shelf.blocks(name, space))

    def _remove(self, name: str) -> None:
        self.registry.remove_model(self.model.pop(name)[0])
        for space in SPACES:
            self.registry.replace_coordinates(space.space_id, self.coordinates())

    names = st.sampled_from(["a", "b", "c", "d", "e", "f", "g.g", "h_i", "J-"])

    @rule(name=names)
    def add(self, name: str) -> None:
        if name in self.model:
            with pytest.raises(ConflictError), self.registry.transaction():
                self.registry.add_model(shelf.card(name))
        else:
            with self.registry.transaction():
                self._add(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.model:
            with self.registry.transaction():
                self._remove(name)

    @rule(name=names)
    def replace_by_the_same_name(self, name: str) -> None:
        """DELETE and INSERT of the same key in one transaction, where DuckDB's log had bugs."""
        if name in self.model:
            with self.registry.transaction():
                self._remove(name)
                self._add(name)

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if old not in self.model or (new in self.model and new != old):
            with pytest.raises((NotFoundError, ConflictError)), self.registry.transaction():
                self.registry.rename_model(old, new)
        else:
            with self.registry.transaction():
                self.registry.rename_model(old, new)
            self.model = {new if name == old else name: entry for name, entry in self.model.items()}

    @rule(name=names, task=st.one_of(st.none(), st.text(max_size=5)))
    def update(self, name: str, task: str | None) -> None:
        if name in self.model:
            model_id, number, _, first_name = self.model[name]
            with self.registry.transaction():
                self.registry.update_model(model_id, task=task)
            self.model[name] = (model_id, number, task, first_name)

    @rule(name=names)
    def fail(self, name: str) -> None:
        before = (dict(self.model), self.last_id)

        def change_and_fail() -> None:
            for other in list(self.model):
                self._remove(other)
            self._add(name)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), self.registry.transaction():
            change_and_fail()
        self.model, self.last_id = before

    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = Registry.open(self.path, write=True)

    @precondition(lambda self: hasattr(self, "registry"))
    @invariant()
    def is_the_same(self) -> None:
        rows = self.registry.models()
        assert [(row.card.name, row.model_id, row.card.task) for row in rows] == [
            (name, entry[0], entry[2]) for name, entry in self.model.items()
        ]
        expected = self.coordinates()
        for space in SPACES:
            stored = self.registry.embeddings(space.space_id)
            assert [(row.model_id, row.position, row.axis) for row in stored] == [
                (row.model_id, row.position, row.axis) for row in expected
            ]
            for actual, reference in zip(stored, expected, strict=True):
                np.testing.assert_allclose(
                    actual.vector, reference.vector, atol=1e-12
                )  # factorised at a different time
                np.testing.assert_allclose(actual.affinities, reference.affinities, atol=1e-12)
            for model_id, _, _, first_name in self.model.values():
                assert list(self.registry.map_blocks(space.space_id, model_id)) == list(shelf.blocks(first_name, space))
        assert self.registry.check() == []


RegistryMachine.TestCase.settings = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
RegistryMachine.TestCase.pytestmark = [pytest.mark.wide]
test_registry_behaves_like_a_persistent_dictionary = RegistryMachine.TestCase
