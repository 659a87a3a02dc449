"""The pictures of the documentation: small files, and what the README says of the first one."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelspace import evaluation
from modelspace.home import INDEX, REGISTRY
from modelspace.workspace import ModelSpace
from modelspace.worlds import streets

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import make_pictures  # noqa: E402


@pytest.mark.wide
def test_the_readme_says_what_its_first_picture_shows(tmp_path: Path) -> None:
    shutil.copy(ROOT / REGISTRY, tmp_path)
    shutil.copytree(ROOT / INDEX, tmp_path / INDEX)
    space = ModelSpace.open(tmp_path)
    picture = make_pictures.choices(space, "A caption.")
    ranks = picture.facts["ranks"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(r"the best of (\d+) sources for (\d+) of (\d+) tasks, one of the best three for (\d+)", text)
    assert said is not None
    oracle = evaluation.load(make_pictures.ORACLE)
    best, good = (sum(rank <= worst for rank in ranks.values()) for worst in (1, 3))
    assert [int(number) for number in said.groups()] == [len(oracle.sources) - 1, best, len(ranks), good]
    # One row against the unconditional ranking and the oracle itself.
    answers = [row.name for row in space.nearest("room_layout", k=38)]
    picked = next(name for name in answers if name in oracle.sources)
    scores = dict(zip(oracle.sources, oracle.score[oracle.targets.index("room_layout")], strict=True))
    better = [name for name, score in scores.items() if name != "room_layout" and score > scores[picked]]
    assert ranks["room_layout"] == 1 + len(better)


def test_streets_stand_in_rows_on_white(tmp_path: Path) -> None:
    make_pictures.sheet(tmp_path / "streets.png", "streets", rows=1, columns=2, side=8)
    with Image.open(tmp_path / "streets.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (40, 68, 3)
    expected = streets.render_rgb8(0, 2, 0, 8)
    for left, street in zip((12, 40), expected, strict=True):
        # Within the step of the palette.
        assert np.abs(pixels[12:28:2, left : left + 16 : 2] - street).max() < 24
    assert (pixels[:12] >= 250).all()


def test_pictures_are_small_and_wide_enough_for_a_sharp_screen() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    drawn = {"choices.png", "map.png", "tree.png", "heatmap.png", "gallery.png", "streets.png"}
    assert drawn <= {path.name for path in pictures}
    for path in pictures:
        assert path.stat().st_size <= make_pictures.MAX_PNG, path.name
        with Image.open(path) as image:
            assert image.size[0] >= 1400, path.name
            corner = image.convert("RGBA").getpixel((0, 0))
        assert corner == (255, 255, 255, 255), "white also on a dark page"
