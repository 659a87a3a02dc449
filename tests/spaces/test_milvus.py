"""A copy in Milvus answers as the registry does, or not at all: whatever is dropped, changed, swapped or cut off.

The tests run with a store in memory; with milvus-lite and a real server too where these are installed
(`make test-milvus`).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_milvus
import numpy as np
import pytest
from small_spaces import KERNELS, MAPS, add, create

from modelspace.errors import DamagedError, ModelspaceError, NotFoundError, UsageError
from modelspace.registry import Registry
from modelspace.spaces import milvus, milvus_client, milvus_parts
from modelspace.spaces.milvus import MilvusIndex, update
from modelspace.spaces.milvus_client import Address, Store
from modelspace.spaces.milvus_parts import Source
from modelspace.spaces.neighbours import Ranker, Target
from modelspace.spaces.ranking import PLAIN, Ranking
from modelspace.spaces.vector_index import LOCAL, VARIABLE, chosen_address, using
from modelspace.workspace import ModelSpace

SEEDS = (4, 0, 7, 2, 5, 9, 1, 3)
HAS_PYMILVUS = importlib.util.find_spec("pymilvus") is not None


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with create(tmp_path_factory.mktemp("milvus") / "registry.duckdb", MAPS, KERNELS) as registry:
        for seed in SEEDS:
            add(registry, seed, MAPS, KERNELS)
        yield registry


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    """The same registry, closed."""
    home = tmp_path_factory.mktemp("home")
    with create(home / "registry.duckdb", MAPS, KERNELS) as registry:
        for seed in SEEDS:
            add(registry, seed, MAPS, KERNELS)
    return ModelSpace(home)


class Real:
    """A server of the package milvus, as a process that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"milvus://127.0.0.1:{self.port}"

    def start(self) -> None:
        code = (
            "import sys, time\nfrom milvus import default_server as server\n"
            f"server.set_base_dir({str(self.folder)!r})\nserver.listen_port = {self.port}\nserver.start()\n"
            "print(server.server_proc.pid, flush=True)\nsys.stdin.read()\nserver.stop()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    pytest.importorskip("milvus")
    server = Real(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture(params=["memory", "lite", "server"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        fake_milvus.install(monkeypatch)
        address = fake_milvus.ADDRESS
    elif request.param == "lite":
        pytest.importorskip("milvus_lite")
        address = f"milvus:{tmp_path / 'models.db'}"
    else:
        address = request.getfixturevalue("real").address
    opened = milvus.store_at(Address.parse(address))
    yield opened
    for name in opened.names():
        opened.drop(name)
    milvus.close_stores()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_milvus.Server]:
    yield fake_milvus.install(monkeypatch)
    milvus.close_stores()


@dataclass
class Client:
    """The store as another program uses it."""

    store: Store

    def row(self, name: str, model_id: int) -> dict[str, Any]:
        fields = ["model_id", "position", "sum", "projection", "parameters", "vector", "tags"]
        fields += ["name", "task", "data", "architecture"]
        return self.store.rows(name, f"model_id == {model_id}", fields)[0]

    def put(self, name: str, row: dict[str, Any]) -> None:
        self.store._client.upsert(name, [row])

    def remove(self, name: str, model_id: int) -> None:
        self.store._client.delete(name, ids=[model_id])


def source(registry: Registry, spec: Any = MAPS) -> Source:
    return Source.of(registry, spec.space_id)


def answers(registry: Registry, index: MilvusIndex, kept: list[int] | None = None) -> None:
    """Every model's neighbours are those of inner products in float64, and their scores too."""
    ids, vectors = registry.vectors(MAPS.space_id)
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    eligible = np.isin(ids, ids if kept is None else kept)
    for row, model_id in enumerate(ids.tolist()):
        scores, answered = index.search(index.vector(model_id)[None], 4, kept)
        best = np.argsort(-exact[row][eligible], kind="stable")[:4]
        assert answered[0].tolist() == ids[eligible][best].tolist()
        np.testing.assert_allclose(scores[0], exact[row][eligible][best], atol=1e-6)


def newest(store: Store, registry: Registry) -> str:
    name = store.target(source(registry).alias)
    assert name is not None
    return name


def again(store: Store, registry: Registry) -> MilvusIndex:
    """The index as a new process opens it."""
    milvus._checked.clear()
    return MilvusIndex(store, source(registry))


# ---- answers


def test_answers_are_those_of_the_registry_and_an_open_copy_is_not_filled_twice(
    store: Store, registry: Registry
) -> None:
    answers(registry, MilvusIndex(store, source(registry)))
    name = newest(store, registry)
    index = again(store, registry)
    answers(registry, index)
    assert newest(store, registry) == name
    assert (index.count, index.exact, index.note) == (len(SEEDS), True, "")
    assert index.ids.tolist() == registry.model_ids(MAPS.space_id)
    assert milvus.state_of(store, source(registry))[0] == "fresh"


def test_only_chosen_models_are_answered(store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    index = MilvusIndex(store, source(registry))
    answers(registry, index, [1, 3, 4, 5, 8])
    monkeypatch.setattr(milvus, "SPARE", 0)
    answers(registry, index, [1, 3, 4, 5, 8])  # by a condition that lists them
    monkeypatch.setattr(milvus, "MOST_IDS", 4)
    answers(registry, index, [1, 3, 4, 5, 8, 7])  # that lists the others
    monkeypatch.setattr(milvus, "MOST_IDS", 1)
    answers(registry, index, [1, 3, 4, 5, 8])  # among all
    monkeypatch.setattr(milvus, "MOST_ROWS", 5)
    answers(registry, index, [1, 3, 4, 5, 8])  # in pieces
    scores, ids = index.search(index.vector(1)[None], 3, [99])
    assert scores.shape == ids.shape == (1, 0)


def test_rankings_are_those_of_the_local_index(store: Store, registry: Registry) -> None:
    row = registry.space(MAPS.name)
    for chosen in (None, [1, 2, 5, 6]):
        for k in (1, 3, 20):
            local = Ranker(registry, row, PLAIN, chosen).rank(Target("m4", 1), k)
            with using(store.address.text):
                there = Ranker(registry, row, PLAIN, chosen).rank(Target("m4", 1), k)
            assert there.model_ids == local.model_ids
            np.testing.assert_array_equal(there.affinities, local.affinities)


def test_a_ranking_that_is_corrected_for_hubs_says_that_it_uses_the_files(
    server: fake_milvus.Server, registry: Registry
) -> None:
    with using(fake_milvus.ADDRESS):
        ranker = Ranker(registry, registry.space(MAPS.name), Ranking(correction="csls"))
    assert ranker.note == "corrected for hubs, so searched in the files next to the registry"
    assert server.calls == []


# ---- disagreement


def without_a_row(client: Client, name: str) -> None:
    client.remove(name, 3)


def with_another_vector(client: Client, name: str) -> None:
    row = client.row(name, 3)
    client.put(name, {**row, "vector": [-value for value in row["vector"]]})


def with_two_vectors_exchanged(client: Client, name: str) -> None:
    first, second = client.row(name, 2), client.row(name, 3)
    client.put(name, {**first, "vector": second["vector"]})
    client.put(name, {**second, "vector": first["vector"]})


def with_another_checksum(client: Client, name: str) -> None:
    client.put(name, {**client.row(name, 3), "sum": 12345})


def with_a_row_for_another(client: Client, name: str) -> None:
    row = client.row(name, 3)
    client.remove(name, 3)
    client.put(name, {**row, "model_id": 77})


def with_a_row_more(client: Client, name: str) -> None:
    client.put(name, {**client.row(name, 3), "model_id": 77, "position": 70})


def without_its_list(client: Client, name: str) -> None:
    client.remove(name, milvus_parts.MANIFEST)


def with_a_list_of_something_else(client: Client, name: str) -> None:
    client.put(name, {**client.row(name, milvus_parts.MANIFEST), "tags": {"manifest": "[]"}})


def without_its_collection(client: Client, name: str) -> None:
    client.store.drop_alias(name.rsplit("_", 2)[0])
    client.store.drop(name)


def without_what_the_alias_points_to(client: Client, name: str) -> None:
    try:
        client.store.drop(name)
    except ModelspaceError:  # newer servers refuse that
        without_its_collection(client, name)


DAMAGES = [
    without_a_row,
    with_another_vector,
    with_two_vectors_exchanged,
    with_another_checksum,
    with_a_row_for_another,
    with_a_row_more,
    without_its_list,
    with_a_list_of_something_else,
    without_its_collection,
    without_what_the_alias_points_to,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_copy_that_disagrees_is_filled_again(
    store: Store, registry: Registry, damage: Callable[[Client, str], None]
) -> None:
    MilvusIndex(store, source(registry))
    name = newest(store, registry)
    damage(Client(store), name)
    state, reason, _ = milvus.state_of(store, source(registry))
    is_missing = damage in (without_its_collection, without_what_the_alias_points_to)
    assert state == ("missing" if is_missing else "damaged"), reason
    index = again(store, registry)
    answers(registry, index)
    assert newest(store, registry) != name
    assert ("was filled again" in index.note) == (not is_missing)


@pytest.mark.parametrize("damage", [without_a_row, without_its_list, with_a_row_more], ids=lambda each: each.__name__)
def test_a_long_running_process_notices_a_change_of_the_rows(
    store: Store, registry: Registry, damage: Callable[[Client, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = MilvusIndex(store, source(registry))
    damage(Client(store), newest(store, registry))
    monkeypatch.setattr(milvus, "COUNT_AGAIN", 0)
    answers(registry, index)


def test_a_large_copy_that_disagrees_is_refused_with_what_to_do(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "AUTOMATIC", 3)
    with pytest.raises(NotFoundError, match="is missing") as missing:
        MilvusIndex(store, source(registry))
    assert f"`space.push_index(index={store.address.text!r})`" in missing.value.hint
    update(store, source(registry))
    with_another_vector(Client(store), newest(store, registry))
    with pytest.raises(DamagedError, match=r"the vector of model 3 in part .* is not the one that was sent"):
        again(store, registry)


def test_the_alias_of_one_registry_is_never_answered_with_another_ones_collection(
    store: Store, registry: Registry, tmp_path: Path
) -> None:
    with create(tmp_path / "registry.duckdb", MAPS) as other:
        for seed in reversed(SEEDS):
            add(other, seed, MAPS)
        MilvusIndex(store, source(registry))
        MilvusIndex(store, source(other))
        store.switch(source(registry).alias, newest(store, other))
        with pytest.raises(milvus_parts.DisagreementError, match="registry_id is"):
            milvus_parts.parts_of(store, source(registry))
        answers(registry, again(store, registry))
        answers(other, again(store, other))


def test_a_diverged_copy_of_the_registry_is_not_answered_with_the_other_ones_vectors(
    store: Store, registry: Registry, tmp_path: Path
) -> None:
    """Both have one id, and other models at the same positions."""
    with create(tmp_path / "registry.duckdb", MAPS) as other:
        for seed in reversed(SEEDS):
            add(other, seed, MAPS)
        other.registry_id = registry.registry_id
        MilvusIndex(store, source(registry))
        answers(other, again(store, other))
        answers(registry, again(store, registry))


# ---- growth


@pytest.mark.first(2)
def test_models_that_were_added_are_found_at_once_and_filled_into_parts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(tmp_path / "registry.duckdb", MAPS) as registry:
        for seed in range(6):
            add(registry, seed, MAPS)
        update(store, source(registry))
        name = newest(store, registry)
        add(registry, 6, MAPS)
        index = again(store, registry)
        answers(registry, index)  # from the registry
        answers(registry, index, [1, 2, 6, 7])
        assert milvus.state_of(store, source(registry))[:2] == ("behind", "1 models were added since")
        assert newest(store, registry) == name
        parts, written = update(store, source(registry))
        assert ([part.count for part in parts], written) == ([6, 1], 1)
        answers(registry, again(store, registry))
        add(registry, 7, MAPS)
        parts, written = update(store, source(registry))
        assert ([part.count for part in parts], written) == ([6, 2], 2)  # a small part is taken in
        answers(registry, again(store, registry))
        answers(registry, again(store, registry), [1, 2, 6, 7, 8])
        add(registry, 8, MAPS)
        parts, written = update(store, source(registry))
        assert ([part.count for part in parts], written) == ([9], 9)
        assert update(store, source(registry)) == (parts, 0)
        assert len([name for name in store.names() if name.startswith(source(registry).alias)]) == 1
        monkeypatch.setattr(milvus, "TAIL", 0)
        add(registry, 9, MAPS)
        answers(registry, again(store, registry))
        assert milvus.state_of(store, source(registry))[0] == "fresh"


def test_removed_models_are_never_answered(store: Store, tmp_path: Path) -> None:
    """Past the cap a removal leaves the vectors of the others as they are."""
    with create(tmp_path / "registry.duckdb", MAPS) as registry:
        for seed in range(8):
            add(registry, seed, MAPS)
        update(store, source(registry))
        with registry.transaction():
            registry.remove_model(8)  # the last one, on which no other depends
        name = newest(store, registry)
        index = again(store, registry)
        answers(registry, index)
        with pytest.raises(NotFoundError, match="model 8 is not in the space"):
            index.vector(8)
        assert newest(store, registry) == name
        for model_id in range(1, 8):
            with registry.transaction():
                registry.remove_model(model_id)
        assert again(store, registry).search(np.ones((1, 4)), 3)[1].shape == (1, 0)
        assert update(store, source(registry)) == ([], 0)
        assert store.target(source(registry).alias) is None


def test_drop_leaves_other_spaces_and_collections(store: Store, registry: Registry) -> None:
    store.create("somebody_elses", 4, True)
    update(store, source(registry))
    update(store, source(registry, KERNELS))
    assert milvus_parts.drop(store, source(registry)) == 1
    assert milvus.state_of(store, source(registry))[0] == "missing"
    assert milvus.state_of(store, source(registry, KERNELS))[0] == "fresh"
    assert "somebody_elses" in store.names()


def test_only_parts_that_all_nodes_have_are_read_as_they_were(
    server: fake_milvus.Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = milvus.store_at(Address.parse(fake_milvus.ADDRESS))
    index = MilvusIndex(store, source(registry))
    answers(registry, index)
    assert server.consistency == {"Strong"}
    monkeypatch.setattr(milvus, "SETTLED", -10.0)
    answers(registry, index)
    assert server.consistency == {"Strong", "Bounded"}
    server.consistency.clear()
    again(store, registry)
    assert server.consistency == {"Strong"}, "comparisons read the rows as they are"


# ---- graphs, and parts that are not read in full


def test_a_graph_is_measured_and_one_that_misses_too_much_is_not_used(
    server: fake_milvus.Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_parts, "EXACT_BELOW", 3)
    monkeypatch.setattr(milvus_parts, "SEALED_FROM", 3)
    store = milvus.store_at(Address.parse(fake_milvus.ADDRESS))
    (part,), _ = update(store, source(registry))
    assert (part.exact, part.recall, server.collections[part.name].kind) == (False, 1.0, "HNSW")
    index = again(store, registry)
    assert not index.exact
    answers(registry, index)
    with_another_vector(Client(store), part.name)
    assert milvus.state_of(store, source(registry))[0] == "damaged"
    server.forgets = 0.5
    (part,), _ = update(store, source(registry), whole=True)
    assert (part.exact, server.collections[part.name].kind) == (True, "FLAT")
    answers(registry, again(store, registry))


def test_large_parts_are_read_in_ranges(
    server: fake_milvus.Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_parts, "READ_IN_FULL", 4)
    monkeypatch.setattr(milvus_parts, "MOST_ROWS", 2)
    monkeypatch.setattr(milvus_parts, "RANGES", 1)
    store = milvus.store_at(Address.parse(fake_milvus.ADDRESS))
    (part,), _ = update(store, source(registry))
    with_another_vector(Client(store), part.name)
    assert milvus.state_of(store, source(registry), deep=True)[0] == "damaged"
    states = {milvus.state_of(store, source(registry))[0] for _ in range(30)}
    assert states == {"fresh", "damaged"}, "a few ranges are drawn each time"


# ---- the verbs


@pytest.mark.wide
def test_the_verbs_fill_compare_and_drop_the_copies_of_all_spaces(
    server: fake_milvus.Server, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match="no store is named"):
        space.push_index()
    monkeypatch.setenv(VARIABLE, fake_milvus.ADDRESS)
    assert [(info.space, info.state) for info in space.index_status()] == [("saliency", "missing"), ("dds", "missing")]
    (pushed,) = space.push_index(space="dds")
    assert (pushed.state, pushed.n_models, pushed.n_indexed, pushed.n_written, pushed.parts) == ("fresh", 8, 8, 8, 1)
    assert [info.n_written for info in space.push_index()] == [8, 0]
    assert [info.n_written for info in space.push_index(whole=True)] == [8, 8]
    assert [info.state for info in space.index_status(deep=True)] == ["fresh", "fresh"]
    neighbours = space.nearest("m4", 3, space="dds")
    assert "search" in server.calls
    server.calls.clear()
    assert space.nearest("m4", 3, space="dds", index="local").to_dicts() == neighbours.to_dicts()
    assert server.calls == []
    assert space.drop_index(space="dds") == ("dds",)
    assert space.drop_index() == ("saliency",)
    assert server.collections == {}


def test_a_push_that_arrives_damaged_is_refused(
    server: fake_milvus.Server, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.push_index(fake_milvus.ADDRESS, space="saliency")
    before = dict(server.aliases)
    with monkeypatch.context() as patch:
        patch.setattr(milvus_parts, "SEALED_FROM", 0)
        patch.setattr(Store, "seal", lambda store, name: store._client.delete(name, ids=[3]))
        with pytest.raises(DamagedError, match=r"was not filled: part .* has 7 rows, not 8"):
            space.push_index(fake_milvus.ADDRESS, space="saliency", whole=True)
    assert server.aliases == before
    assert len(server.collections) == 1
    assert space.push_index(fake_milvus.ADDRESS, space="saliency", whole=True)[0].n_written == 8


@pytest.mark.wide
def test_verify_compares_the_copy_that_queries_use(
    server: fake_milvus.Server, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, fake_milvus.ADDRESS)
    space.push_index()
    what = f"saliency: index at {fake_milvus.ADDRESS}"
    assert {check.what: check.ok for check in space.verify()}[what]
    with_another_vector(
        Client(milvus.store_at(Address.parse(fake_milvus.ADDRESS))), newest_of(server, "saliency", space)
    )
    (check,) = (check for check in space.verify() if check.what == what)
    assert (check.ok, check.hint) == (False, "run `space.push_index()`")
    assert "the vector of model 3" in check.detail
    server.is_up = False
    (check,) = (check for check in space.verify() if check.what == what)
    assert (check.ok, "can't be used" in check.detail) == (False, True)


def newest_of(server: fake_milvus.Server, name: str, space: ModelSpace) -> str:
    (space_id,) = (row.space_id for row in space.spaces() if row.name == name)
    (collection,) = (each for each in server.collections if space_id in each)
    return collection


# ---- what breaks off


def test_a_fill_that_breaks_off_changes_nothing(
    server: fake_milvus.Server, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = milvus.store_at(Address.parse(fake_milvus.ADDRESS))
    update(store, source(registry))
    name = newest(store, registry)
    for rows in range(len(SEEDS) + 1):
        server.dies_after = rows
        with pytest.raises(ModelspaceError, match="can't be used: Fail connecting") as error:
            update(store, source(registry), whole=True)
        assert "`index='local'`" in error.value.hint
        server.is_up, server.dies_after = True, None
        assert newest(store, registry) == name
        answers(registry, again(store, registry))
    assert len(server.collections) == len(SEEDS) + 2, "the server was away when they were to be dropped"
    update(store, source(registry))
    assert len(server.collections) == len(SEEDS) + 2, "they may be another process's"
    monkeypatch.setattr(milvus_parts, "ABANDONED", -1)
    update(store, source(registry))
    assert list(server.collections) == [name]


def test_a_server_that_is_away_is_said_and_the_next_search_works(
    server: fake_milvus.Server, registry: Registry
) -> None:
    store = milvus.store_at(Address.parse(fake_milvus.ADDRESS))
    index = MilvusIndex(store, source(registry))
    server.is_up = False
    with pytest.raises(ModelspaceError, match=r"milvus://127.0.0.1:19530 can't be used") as error:
        index.search(index.vector(1)[None], 3)
    assert error.value.hint.endswith("search in the files next to the registry: `index='local'`")
    server.is_up = True
    answers(registry, index)


def test_a_real_server_that_is_killed_in_a_fill_and_in_queries(
    real: Real, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = milvus.store_at(Address.parse(real.address))
    update(store, source(registry))
    name = newest(store, registry)
    index = again(store, registry)
    monkeypatch.setattr(milvus_parts, "REQUEST_BYTES", 1)  # a request for each model

    def killing(done: int, total: int) -> None:
        if done == 3:
            real.kill()
            monkeypatch.setattr(milvus_client, "PATIENCE", 3.0)
        killed.append(done)

    killed: list[int] = []
    with pytest.raises(ModelspaceError, match="can't be used"):
        update(store, source(registry), whole=True, progress=killing)
    assert killed == [1, 2, 3]
    with pytest.raises(ModelspaceError, match="can't be used"):
        index.search(index.vector(1)[None], 3)
    milvus.close_stores()
    with pytest.raises(ModelspaceError, match=r"can't be (reached|used)"):
        milvus.store_at(Address.parse(real.address)).names()
    real.start()
    monkeypatch.setattr(milvus_client, "PATIENCE", 60.0)
    store = milvus.store_at(Address.parse(real.address))
    assert newest(store, registry) == name
    index = again(store, registry)
    answers(registry, index)
    monkeypatch.setattr(milvus_client, "PATIENCE", 3.0)
    real.kill()
    with pytest.raises(ModelspaceError, match="can't be used"):
        answers(registry, index)
    real.start()
    monkeypatch.setattr(milvus_client, "PATIENCE", 60.0)
    milvus.close_stores()
    answers(registry, again(milvus.store_at(Address.parse(real.address)), registry))
    milvus.close_stores()


# ---- addresses


def test_addresses() -> None:
    assert Address.parse("milvus://db.example:19530/models") == Address(
        "milvus://db.example:19530/models", "http://db.example:19530", "models"
    )
    assert Address.parse("milvus+tls://[::1]:1").uri == "https://[::1]:1"
    assert Address.parse("milvus:a/b.db").file == Path("a/b.db").absolute()
    exposed = {text: Address.parse(text).is_exposed for text in ("milvus://[::1]:1", "milvus://10.0.0.1:1")}
    assert exposed == {"milvus://[::1]:1": False, "milvus://10.0.0.1:1": True}
    assert not Address.parse("milvus+tls://10.0.0.1:1").is_exposed


@pytest.mark.parametrize(
    "text",
    ["", "faiss", "milvus", "milvus:", "milvus:x", "milvus://host", "milvus://host:99999", "milvus://a:b@host:1",
     "http://host:19530", "milvus://:19530", "milvus:///x.db"],
)  # fmt: skip
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        Address.parse(text)
    assert "b@" not in str(error.value), "passwords are not repeated"


def test_the_address_comes_from_the_call_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSPACE_INDEX", raising=False)
    assert chosen_address() == LOCAL
    monkeypatch.setenv("MODELSPACE_INDEX", "milvus:a.db")
    with using("local"):
        assert chosen_address() == LOCAL
    with using(None):
        assert chosen_address() == "milvus:a.db"


def test_the_token_comes_from_a_file_or_the_environment_and_a_warning_says_that_it_can_be_read(
    server: fake_milvus.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("root:secret\n")
    monkeypatch.setenv("MODELSPACE_INDEX_TOKEN", "root:other")
    Store(Address.parse("milvus://localhost:1/models"))
    assert server.options == {"uri": "http://localhost:1", "timeout": 10.0, "token": "root:other", "db_name": "models"}
    monkeypatch.setenv("MODELSPACE_INDEX_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.warns(UserWarning, match="the token is sent to milvus://10.0.0.1:1 unencrypted"):
        Store(Address.parse("milvus://10.0.0.1:1"))
    monkeypatch.setenv("MODELSPACE_INDEX_CA", "ca.pem")
    Store(Address.parse("milvus+tls://10.0.0.1:1"))
    expected = {"uri": "https://10.0.0.1:1", "timeout": 10.0, "token": "root:secret", "server_pem_path": "ca.pem"}
    assert server.options == expected
    monkeypatch.setenv("MODELSPACE_INDEX_TOKEN_FILE", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="the token can't be read from"):
        Store(Address.parse("milvus://localhost:1"))


def test_without_pymilvus_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    for address in (fake_milvus.ADDRESS, f"milvus:{tmp_path / 'a.db'}"):
        with pytest.raises(ModelspaceError) as error:
            Store(Address.parse(address))
        assert error.value.hint == "pip install 'modelspace-db[milvus]'"
