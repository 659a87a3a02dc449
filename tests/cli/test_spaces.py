"""Kinds of spaces and rankings, on the command line, with models of the zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.cli.init import weights
from modelspace.errors import UsageError


def run(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"MODELSPACE_HOME": None})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spaces")
    run("init", "--images", 12, "--canvas", 8, "--home", folder, "-q")
    run("init", "--method", "saliency", "--scalar", "energy", "--images", 12, "--canvas", 8, "--home", folder, "-q")
    for name in ("edge2d", "reshade", "rgb2depth"):
        run("add", f"zoo:{name}", "--device", "cpu", "--home", folder, "-q")
    return folder


@pytest.mark.wide
def test_spaces_are_listed_with_their_definitions(home: Path) -> None:
    run("init", "--space", "mixed", "--blend", "dds=3,saliency-energy", "--hubs", "csls", "--home", home, "-q")
    spaces = {row["name"]: row for row in json.loads(run("spaces", "--home", home, "--format", "json").stdout)}
    assert list(spaces) == ["gradient_x_input", "dds", "local", "transfer", "saliency-energy", "mixed"]
    assert spaces["transfer"]["is_default"]
    assert spaces["saliency-energy"]["scalar"] == "energy"
    assert spaces["mixed"]["n_models"] == 3
    assert sorted(spaces["mixed"]["parameters"]["members"].values()) == [0.25, 0.75]
    assert "0.75 dds + 0.25 saliency-energy hubs=csls" in run("spaces", "--home", home).stdout


def test_nearest_prints_what_it_ranks_by(home: Path) -> None:
    directed = run("nearest", "rgb2depth", "--home", home)
    assert "space transfer, ranked by how well their features predict the target's" in directed.stdout
    assert "score" in directed.stdout
    by_affinity = run("nearest", "rgb2depth", "--space", "paper", "--home", home)
    assert "(space gradient_x_input)" in by_affinity.stdout
    assert "score" not in by_affinity.stdout
    centred = run("nearest", "rgb2depth", "--space", "paper", "--hubs", "centred", "--home", home)
    assert "corrected for hubs: centred" in centred.stdout
    jaccard = run("nearest", "rgb2depth", "--rerank", "jaccard", "--home", home)
    assert "(space transfer, re-ranked by a similarity of kernels: jaccard)" in " ".join(jaccard.stdout.split())
    rows = json.loads(run("nearest", "rgb2depth", "--rerank", "none", "--home", home, "--format", "json").stdout)
    assert [row["score"] for row in rows] == [row["affinity"] for row in rows]
    assert rows[0]["name"] == "reshade"


def test_mistakes_say_what_to_type(home: Path) -> None:
    for words, message in (
        (("init", "--blend", "dds=1"), "needs --space NAME"),
        (("init", "--blend", "dds=1", "--space", "x", "--images", "5"), "takes neither probes nor methods"),
        (("init", "--hubs", "csls"), "--hubs and --rerank need --blend"),
        (("init", "--blend", "dss=1", "--space", "x"), "did you mean dds"),
        (("nearest", "edge2d", "--hubs", "cls"), "--hubs cls is not known"),
        (("nearest", "edge2d", "--rerank", "direct"), "directed"),
        (("nearest", "edge2d", "--hubs", "csls"), "leave it out, or rank by corrected affinity with --rerank none"),
        (("init", "--method", "dsd"), "did you mean dds"),
        (("gallery", "--space", "dds"), "holds no attribution maps"),
    ):
        code = 1 if "dss=1" in words else 2  # a missing space, not an invalid option
        assert message in " ".join(run(*words, "--home", home, code=code).output.split()), words


def test_weights_of_a_blend() -> None:
    assert weights("dds=0.5, saliency") == {"dds": 0.5, "saliency": 1.0}
    for text in ("dds=x", "=1", "dds=1,dds=2"):
        with pytest.raises(UsageError):
            weights(text)
