"""`max_seconds`: a pass that would take too long ends after its first batch."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tiny
import torch
import zoo_files
from torch import nn

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


def test_an_entry_of_a_manifest_may_have_a_limit(tmp_path: Path) -> None:
    space = zoo_files.home(tmp_path)
    manifest = zoo_files.write(tmp_path, "m0", "m1")
    text = manifest.read_text().replace('name = "m0"', 'name = "m0"\nmax_seconds = 0.0000001')
    manifest.write_text(text)
    assert [outcome.status for outcome in space.add_all(manifest)] == ["failed", "added"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_limit_is_a_positive_number(tmp_path: Path, seconds: float) -> None:
    space = tiny.space(tmp_path)
    with pytest.raises(UsageError, match="a pass can't take"):
        tiny.add(space, "a", tiny.net(0), max_seconds=seconds)
