"""`zoo:NAME`, against a stand-in for the zoo and against the zoo."""

from types import SimpleNamespace

import pytest
from torch import nn

from modelspace import sources, zoo
from modelspace.errors import NotFoundError, UsageError
from modelspace.sources import PreprocessingFlags
from modelspace.types import Preprocessing

CARD = SimpleNamespace(
    task="depth",
    group="3D",
    architecture="small encoder",
    world="rooms",
    data="rendered rooms, images 0 to 7",
    preprocessing=Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3),
    layer="output",
    licence="CC0-1.0",
)


@pytest.fixture
def small_zoo(monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: ["depth", "normals"])
    monkeypatch.setattr(zoo, "card", lambda name: CARD)
    monkeypatch.setattr(zoo, "load", lambda name: nn.Linear(2, 3).eval())


@pytest.mark.usefixtures("small_zoo")
def test_the_card_states_everything():
    loaded = sources.load("zoo:depth")
    assert (loaded.uri, loaded.suggested_name, loaded.preprocessing) == ("zoo:depth", "depth", CARD.preprocessing)
    assert (loaded.layer, loaded.task, loaded.data) == ("output", "depth", "rooms")
    assert loaded.architecture == "small encoder"
    assert loaded.tags == {"group": "3D", "licence": "CC0-1.0", "trained_on": "rendered rooms, images 0 to 7"}
    assert loaded.parameters == 9
    assert not loaded.module.training


@pytest.mark.usefixtures("small_zoo")
def test_a_flag_overrides_the_card():
    loaded = sources.load("zoo:depth", preprocessing=PreprocessingFlags(input_size=(32, 32)))
    assert loaded.preprocessing == Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)


@pytest.mark.usefixtures("small_zoo")
def test_a_wrong_name_gets_the_near_one_or_the_list():
    with pytest.raises(NotFoundError, match="the zoo has no model called 'dpeth'") as caught:
        sources.load("zoo:dpeth")
    assert caught.value.hint == "did you mean depth?"
    with pytest.raises(NotFoundError) as caught:
        sources.load("zoo:qqqq")
    assert caught.value.hint == "it has depth, normals"


@pytest.mark.usefixtures("small_zoo")
def test_weights_of_ones_own_are_refused():
    with pytest.raises(UsageError, match="zoo:depth has its own weights"):
        sources.load("zoo:depth", weights="other.safetensors")


def test_a_network_of_the_zoo_is_loaded_with_its_card():
    name = zoo.names()[0]
    loaded, card = sources.load(f"zoo:{name}"), zoo.card(name)
    assert (loaded.suggested_name, loaded.task, loaded.layer) == (name, card.task, card.layer)
    assert loaded.preprocessing == card.preprocessing
    assert loaded.parameters > 1000
    assert loaded.weights_sha256 == sources.weights_sha256(zoo.load(name))
