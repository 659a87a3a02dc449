"""Model code that does not end, that changes the process, or for which memory runs out."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from modelspace.embedding import limits
from modelspace.embedding.limits import time_limit
from modelspace.embedding.process_state import process_state_kept
from modelspace.errors import EmbeddingError
from modelspace.workspace import ModelSpace


def endless() -> None:
    while True:
        pass


def asleep() -> None:
    time.sleep(60)


def deaf() -> None:
    """Catches whatever it can, twice."""
    for _ in range(2):
        try:
            endless()
        except:  # noqa: E722 - as careless code does
            continue


@pytest.mark.parametrize("code", [endless, asleep, deaf])
def test_code_that_does_not_end_is_stopped(code: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_REPEAT", 0.2)
    started = time.monotonic()
    if code is deaf:
        with time_limit(0.2, "the pass"):
            deaf()
    else:
        with pytest.raises(EmbeddingError, match=r"^the pass did not end within 0\.2 seconds; nothing was stored\n"):
            limited(code, 0.2)
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    time.sleep(0.4)  # nothing rings any more


def limited(code: object, seconds: float | None) -> None:
    with time_limit(seconds, "the pass"):
        code()  # type: ignore[operator]


def test_other_threads_have_a_limit_too() -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            limited(endless, 0.2)
        except EmbeddingError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert "did not end within 0.2" in str(caught[0])


def test_code_in_time_and_its_errors_are_left_alone() -> None:
    ran: list[int] = []
    limited(lambda: ran.append(1), 30)
    limited(lambda: ran.append(2), None)
    assert ran == [1, 2]
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0, 30)
    with pytest.raises(RuntimeError, match="its own"):
        limited(lambda: (_ for _ in ()).throw(RuntimeError("its own")), 30)


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = tiny.net(0)

    def forward(self, x: Tensor) -> Tensor:
        while not self.training:
            pass
        return self.net(x)  # type: ignore[no-any-return]


@pytest.mark.wide
def test_a_model_that_loops_is_refused_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.3)
    monkeypatch.setattr("modelspace.embedding.prepare.PATIENCE", 0.3)
    space = tiny.space(tmp_path)
    before = space.path.read_bytes()
    module = Loop().train()
    with pytest.raises(EmbeddingError, match=r"the pass did not end within 0\.5 seconds"):
        tiny.add(space, "loop", module, max_seconds=0.2)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    assert space.path.read_bytes() == before


@pytest.mark.wide
def test_a_factory_that_loops_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelspace.embedding.prepare.PATIENCE", 0.3)
    (tmp_path / "nets.py").write_text("def make():\n    while True:\n        pass\n")
    space = tiny.space(tmp_path / "home")
    with pytest.raises(EmbeddingError, match="loading the model did not end"):
        space.add(f"python:{tmp_path / 'nets.py'}:make", preprocessing=tiny.PREPROCESSING, max_seconds=0.2)


def test_settings_and_random_states_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    def settings() -> tuple[object, ...]:
        from torch.nn.modules import module

        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),
            random.getstate(),
            torch.get_default_device(),
            list(module._global_forward_hooks),
            sys.getrecursionlimit(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def change_everything() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        torch.set_default_device("meta")
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        sys.setrecursionlimit(sys.getrecursionlimit() + 1)
        torch.use_deterministic_algorithms(True)
        print("from the model")
        raise ZeroDivisionError

    before = settings()
    with pytest.raises(ZeroDivisionError), process_state_kept():
        change_everything()
    assert settings() == before
    assert capsys.readouterr() == ("", "from the model\n")


class Hungry(nn.Module):
    """Memory runs out on more images at once than `most`; than `later`, after the checks of a new model."""

    def __init__(self, most: int, later: int | None = None) -> None:
        super().__init__()
        self.net, self.most, self.later = tiny.net(0), most, later or most
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > (self.most if len(self.sizes) <= 9 else self.later):
            torch.empty(1 << 52)
        return self.net(x)  # type: ignore[no-any-return]


@pytest.mark.wide
def test_the_batch_is_halved_where_memory_runs_out(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=["saliency", "dds"], images=20, canvas=8, bits=32)
    tiny.add(space, "plain", tiny.net(0))
    hungry = Hungry(4)
    added = space.add(hungry, name="hungry", preprocessing=tiny.PREPROCESSING, batch_size=16)
    (note,) = [note for note in added.notes if "memory" in note]
    assert note == "memory ran out, so the images were run 4 at a time; `batch_size=4` does so from the start"
    # After 16 and 8 no larger batch is tried again.
    assert hungry.sizes[-7:] == [16, 8, 4, 4, 4, 4, 4]
    for name in ("saliency", "dds"):
        assert space.affinity(name).matrix[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (1, [2] * 10),
        (3, [2, 2] * 6 + [2]),
        (7, [4, 4, 4, 4, 4, 2]),
        (13, [8, 4, 2, 4, 4]),
        (19, [16, 4, 2]),
        (20, [16, 4]),
    ],
)
def test_images_are_run_a_power_of_two_at_a_time(tmp_path: Path, batch_size: int, sizes: list[int]) -> None:
    # Other numbers are computed by other algorithms, a single image too; an odd one is run with a copy of itself.
    space = ModelSpace.create(tmp_path, methods=["saliency", "dds"], images=20, canvas=8, bits=32)
    counting = Hungry(20)
    space.add(counting, name="counting", preprocessing=tiny.PREPROCESSING, batch_size=batch_size)
    # The checks of the model come first.
    assert counting.sizes[-len(sizes) :] == sizes
    tiny.add(space, "plain", tiny.net(0))
    for name in ("saliency", "dds"):
        assert space.affinity(name).matrix[0, 1] == pytest.approx(1, abs=1e-9)


def test_images_are_run_alone_where_two_do_not_fit(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, methods=["saliency", "dds"], images=5, canvas=8, bits=32)
    hungry = Hungry(16, later=1)
    added = space.add(hungry, name="hungry", preprocessing=tiny.PREPROCESSING, batch_size=1)
    assert hungry.sizes[-6:] == [2, 1, 1, 1, 1, 1]
    assert "memory ran out, so the images were run 1 at a time" in added.notes


def test_a_single_image_too_large_is_a_named_error(tmp_path: Path) -> None:
    space = tiny.space(tmp_path)
    before = space.path.read_bytes()
    with pytest.raises(EmbeddingError, match="memory ran out") as raised:
        tiny.add(space, "hungry", Hungry(0))
    assert "`device=`" in raised.value.hint
    assert space.path.read_bytes() == before


@pytest.mark.wide
def test_the_mean_of_the_centred_energy_is_computed_in_parts(tmp_path: Path) -> None:
    space = tiny.space(tmp_path, methods=["saliency"], scalar="centred_energy", images=10)
    tiny.add(space, "plain", tiny.net(0))
    tiny.add(space, "hungry", Hungry(3), batch_size=10)
    (name,) = [row.name for row in space.spaces()]
    assert space.affinity(name).matrix[0, 1] == pytest.approx(1, abs=1e-6)
