"""What happens after the first batch of a long pass: its expected time is said, and `max_seconds` ends it."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import zoo_files
from torch import nn
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.embedding import embed
from modelspace.errors import EmbeddingError, UsageError


class Slow(nn.Module):
    """A small net that takes 0.05 s per call, and appends its number of images to a list."""

    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.net = tiny.net(0)
        self.saw = seen.append

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        self.saw(len(x))
        return self.net(x)  # type: ignore[no-any-return]


@pytest.mark.wide
def test_a_pass_that_would_take_too_long_ends_after_its_first_batch(tmp_path: Path) -> None:
    space = tiny.space(tmp_path, images=40)
    before = space.path.read_bytes()
    stopped_at: list[int] = []
    whole: list[int] = []
    options = {"name": "slow", "preprocessing": tiny.PREPROCESSING, "batch_size": 2}
    with pytest.raises(EmbeddingError, match=r"about \d+ seconds for 40 images, more than the 0.5 that are") as stopped:
        space.add(Slow(stopped_at), max_seconds=0.5, **options)  # type: ignore[arg-type]
    assert "allow more with `max_seconds=`" in stopped.value.hint
    assert space.path.read_bytes() == before
    assert space.waiting() == ()
    assert space.add(Slow(whole), max_seconds=500, **options).status == "added"  # type: ignore[arg-type]
    assert sum(stopped_at) <= sum(whole) - 38


@pytest.mark.wide
def test_an_entry_of_a_manifest_may_have_a_limit(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    manifest = zoo_files.write(tmp_path, "m0", "m1")
    text = manifest.read_text().replace('name = "m0"', 'name = "m0"\nmax_seconds = 0.0000001')
    manifest.write_text(text)
    assert [outcome.status for outcome in space.add_all(manifest)] == ["failed", "added"]


@pytest.mark.first(1)
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_limit_is_a_positive_number(tmp_path: Path, seconds: float) -> None:
    space = tiny.space(tmp_path)
    with pytest.raises(UsageError, match="a pass can't take"):
        tiny.add(space, "a", tiny.net(0), max_seconds=seconds)


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of the pass that runs on by 10 seconds each time it is read."""
    ticks = count(0, 10)
    monkeypatch.setattr(embed, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


@pytest.mark.wide
@pytest.mark.usefixtures("slow_clock")
def test_a_long_pass_says_how_long_it_will_take(tmp_path: Path) -> None:
    space = tiny.space(tmp_path, images=40)
    said: list[str] = []
    tiny.add(space, "a", tiny.net(0), batch_size=2, on_note=said.append)
    space.nearest(tiny.net(1), preprocessing=tiny.PREPROCESSING, batch_size=2, on_note=said.append)
    stop = "`max_seconds=` stops a pass that would take too long"
    assert said == [f"the pass will take about 3 minutes for 40 images on cpu; {stop}"] * 2
    tiny.add(space, "b", tiny.net(2), batch_size=2, on_note=said.append, max_seconds=1000)
    assert said[2] == "the pass will take about 3 minutes for 40 images on cpu"


@pytest.mark.wide
@pytest.mark.usefixtures("slow_clock")
def test_a_faster_device_of_the_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tiny.space(tmp_path, images=40)
    monkeypatch.setattr("modelspace.verbs.add.pick_device", lambda: torch.device("cuda"))
    said: list[str] = []
    tiny.add(space, "a", tiny.net(0), batch_size=2, on_note=said.append)
    assert said[0].endswith("too long, `device='cuda'` is faster")


@pytest.mark.wide
@pytest.mark.usefixtures("slow_clock")
def test_a_pass_whose_rest_is_short_says_nothing(tmp_path: Path) -> None:
    space = tiny.space(tmp_path, images=6)
    said: list[str] = []
    tiny.add(space, "a", tiny.net(0), batch_size=2, on_note=said.append)
    tiny.add(space, "b", tiny.net(1), batch_size=6, on_note=said.append)
    assert said == []


@pytest.mark.sampled(2)
@pytest.mark.wide
@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("verb", ["add", "nearest"])
def test_the_command_line_says_it_on_standard_error_unless_quiet(tmp_path: Path, verb: str) -> None:
    space = tiny.space(tmp_path, images=40)
    tiny.add(space, "a", tiny.net(0))
    words = [verb, "zoo:curvature", "--batch-size", "2", "--home", str(tmp_path)]
    said = CliRunner().invoke(app, [*words, "--format", "json"])
    assert said.exit_code == 0, said.output
    expected = "note: the pass will take about 3 minutes for 40 images on cpu; --max-seconds stops a pass that would"
    assert said.stderr.startswith(expected)
    assert "minutes" not in said.stdout
    assert (
        "minutes" not in CliRunner().invoke(app, [*words, "--quiet", *(["--replace"] if verb == "add" else [])]).output
    )
