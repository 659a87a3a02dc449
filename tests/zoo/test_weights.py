"""The shipped networks: they load, have the recorded weights, and are better than a constant."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modelspace import zoo
from modelspace.errors import DamagedError, NotFoundError
from modelspace.lab import training
from modelspace.lab.tasks import TASKS, Scaling, task
from modelspace.worlds.rooms import Render, render, sample_scenes
from modelspace.zoo.architectures import ARCHITECTURES

WEIGHTS = zoo.FOLDER / "weights"
MEASURED = 300  # images of the recorded readout


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several threads are slower here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def held_out() -> dict[int, Render]:
    """Held-out rooms by input size; other sizes than 64 are rendered on demand."""
    return {}


def rooms_of(held_out: dict[int, Render], size: int) -> Render:
    if size not in held_out:
        held_out[size] = render(sample_scenes(training.HELD_OUT, MEASURED, training.WORLD), size)
    return held_out[size]


def test_there_is_a_network_for_every_task() -> None:
    assert set(TASKS) <= set(zoo.names())


def test_no_file_without_an_entry_and_all_are_small() -> None:
    files = {path.stem: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert set(files) == set(zoo.names())
    assert max(files.values()) <= 500_000
    assert sum(files.values()) <= 20_000_000


@pytest.mark.first(25)
@pytest.mark.parametrize("name", zoo.names())
def test_the_file_is_the_recorded_one_and_loads(name: str) -> None:
    card = zoo.card(name)
    assert hashlib.sha256(card.weights.read_bytes()).hexdigest() == card.sha256
    assert card.group == task(card.task).group
    assert card.architecture in ARCHITECTURES
    module = zoo.load(name)
    assert not module.training
    x = torch.zeros(2, 3, *card.preprocessing.input_size)
    x[1] = torch.randn(x[1].shape, generator=torch.Generator().manual_seed(0))
    x.requires_grad_(True)
    output = module(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert (gradient.flatten(1).norm(dim=1) > 1e-6).all()


@pytest.mark.parametrize("name", zoo.names())
def test_the_recorded_score_beats_the_constant(name: str) -> None:
    card = zoo.card(name)
    assert card.ratio < 0.8
    assert card.ratio == pytest.approx(card.details["loss"] / card.details["constant_loss"])
    if card.score_name == "accuracy":
        assert card.score > card.constant_score + 0.2


def measured_again() -> list[str]:
    """The networks of rooms with 64 x 64 input: all of Taskonomy's tasks, and some of the collected ones."""
    cards = [zoo.card(name) for name in zoo.names()]
    return [
        card.name for card in cards if card.preprocessing.input_size == (64, 64) and card.details["world"] == "rooms"
    ]


def test_every_task_is_measured_again() -> None:
    assert set(TASKS) <= set(measured_again())


@pytest.mark.wide
@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", measured_again())
def test_the_score_is_found_again(name: str, held_out: dict[int, Render]) -> None:
    """A linear map of the output, fitted and evaluated on held-out rooms, is as good as recorded: the right weights,
    the right label and the right renderer are here, and what they know is more than the mean."""
    card, target = zoo.card(name), task(zoo.card(name).task)
    r = rooms_of(held_out, card.preprocessing.input_size[0])
    label = target.label(r)
    if not target.classifies:
        scaling = Scaling(torch.tensor(card.details["label_mean"]), torch.tensor(card.details["label_std"]))
        label = scaling.apply(label)
        assert label.mean().abs() < 0.25  # the stored constants fit these rooms
        assert 0.6 < label.std() < 1.6
    output = training.apply(target, zoo.load(name), (r.rgb * 255 + 0.5).to(torch.uint8), layer=card.layer)
    readout = training.readout(target, output, label)
    assert readout == pytest.approx(card.details["readout"], abs=0.03)
    assert readout < 0.92


def test_unknown_names_get_near_ones() -> None:
    with pytest.raises(NotFoundError) as error:
        zoo.load("rgb2dept")
    assert "rgb2depth" in error.value.hint


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    zoo.card("rgb2mist")
    content = bytearray(zoo.card("rgb2depth").weights.read_bytes())
    content[-5] ^= 1
    (tmp_path / "weights" / "rgb2depth.safetensors").write_bytes(content)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    with pytest.raises(DamagedError, match="rgb2depth"):
        zoo.load("rgb2depth")
    with pytest.raises(NotFoundError, match="are missing"):
        zoo.load("rgb2mist")


def test_the_scores_can_fail(held_out: dict[int, Render]) -> None:
    """The readout of one task's label from another task's output, or from noise, is not the recorded one."""
    card, target = zoo.card("vanishing_point"), task("vanishing_point")
    label = torch.randn(MEASURED, target.outputs, generator=torch.Generator().manual_seed(0))
    output = torch.randn(MEASURED, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    assert training.readout(target, output, label) > card.details["readout"] + 0.1


def test_names_and_cards_do_not_import_torch() -> None:
    code = "import sys; from modelspace import zoo; zoo.card(zoo.names()[0]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=zoo.FOLDER.parent.parent).returncode == 0
