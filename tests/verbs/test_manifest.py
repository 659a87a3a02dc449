"""Manifests: their valid content, and the messages about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelspace import zoo
from modelspace.errors import NotFoundError, UsageError
from modelspace.sources import PreprocessingFlags
from modelspace.verbs import manifest
from modelspace.verbs.manifest import Entry, ManifestError


def read(folder: Path, text: str, name: str = "zoo.toml") -> list[Entry]:
    file = folder / name
    file.write_text(text, "utf-8")
    return manifest.read(file)


def mistakes(folder: Path, text: str, name: str = "zoo.toml") -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read(folder, text, name)
    assert name in caught.value.message
    assert caught.value.exit_code == 2
    return list(caught.value.mistakes)


FULL = """
[defaults]
task = "classification"
input_size = 224
tags = { owner = "me", kind = "plain" }

[[model]]
name = "first"
uri = "python:nets.py:make"
weights = "weights/first.safetensors"
layer = "fc:in"
mean = [0.485, 0.456, 0.406]
std = "0.2,0.2,0.2"
channels = "bgr"
value_range = [0, 255]
data = "ImageNet"
tags.kind = "special"
device = "cpu"
batch_size = 4
trust_code = "ab"

[[model]]
uri = "zoo:rgb2depth"
task = "depth"
input_size = "192x256"

[[model]]
name = "later"
needs = "a port of the checkpoint"
"""


def test_toml_says_all_that_add_can(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, FULL)
    assert first.options == {
        "model": f"python:{tmp_path}/nets.py:make",
        "name": "first",
        "weights": f"{tmp_path}/weights/first.safetensors",
        "layer": "fc:in",
        "preprocessing": PreprocessingFlags((224, 224), (0.485, 0.456, 0.406), (0.2, 0.2, 0.2), "bgr", (0.0, 255.0)),
        "task": "classification",
        "data": "ImageNet",
        "tags": {"owner": "me", "kind": "special"},
        "device": "cpu",
        "trust_code": "ab",
    }
    assert (first.batch_size, first.where) == (4, "line 7 (model 1, first)")
    assert second.options["preprocessing"] == PreprocessingFlags((192, 256))
    assert (second.name, second.label, second.options["task"]) == (None, "zoo:rgb2depth", "depth")
    assert (third.model, third.needs) == (None, "a port of the checkpoint")


def test_csv_says_the_same(tmp_path: Path) -> None:
    text = (
        "name,uri,weights,input_size,mean,tags.group,batch_size\n"
        "first,python:nets.py:make,w.safetensors,224,0.4 0.5 0.6,2D,4\n"
        "\n"
        '# a remark\nsecond,zoo:rgb2depth,,,"0.1,0.2,0.3",,\n'
    )
    first, second = read(tmp_path, text, "zoo.csv")
    assert first.options == {
        "model": f"python:{tmp_path}/nets.py:make",
        "name": "first",
        "weights": f"{tmp_path}/w.safetensors",
        "preprocessing": PreprocessingFlags((224, 224), (0.4, 0.5, 0.6)),
        "tags": {"group": "2D"},
    }
    assert first.batch_size == 4
    assert second.options["preprocessing"] == PreprocessingFlags(mean=(0.1, 0.2, 0.3))
    assert second.where == "line 5 (model 2, second)"


def test_every_field_of_a_request_is_a_key() -> None:
    """A new option of `add` can be used in manifests at once."""
    from dataclasses import fields

    from modelspace.embedding.prepare import Request

    known = {*manifest.KEYS, "model", "preprocessing", *manifest._request_fields()}
    assert {entry.name for entry in fields(Request)} <= known


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """
[defaults]
lyer = "fc"
name = "everyone"

[[model]]
name = "a"
uri = "zooo:depth"

[[model]]
name = "a"
uri = "zoo:rgb2depth"
wieghts = "w.safetensors"
mean = "x"
batch_size = 0
tags = "group"

[[model]]
name = "b c"

[modle]
"""
    told = "\n".join(mistakes(tmp_path, text))
    for words in (
        "unknown table 'modle', did you mean model?",
        "[defaults]: 'name' belongs to one model, not to all",
        "[defaults]: unknown key 'lyer', did you mean layer?",
        "line 8 (model 1, a): unknown scheme 'zooo' (did you mean zoo?",
        "line 11 (model 2, a): the name 'a' is taken by line 7 (model 1, a)",
        "line 13 (model 2, a): unknown key 'wieghts', did you mean weights?",
        "line 14 (model 2, a): mean='x' is not a comma-separated list of numbers",
        "line 15 (model 2, a): batch_size is not a whole number above 0: 0",
        "line 16 (model 2, a): tags is not a table",
        "line 19 (model 3, b c): 'b c' can't be the name of a model",
        "line 18 (model 3, b c): neither uri nor needs",
    ):
        assert words in told
    assert len(told.splitlines()) == 11, told


def test_a_wrong_column_is_told_once(tmp_path: Path) -> None:
    rows = "".join(f"m{i},zoo:rgb2depth,x\n" for i in range(50))
    (told,) = mistakes(tmp_path, f"name,uri,laier\n{rows}", "zoo.csv")
    assert told == "line 2 (model 1, m0) and 49 more: unknown key 'laier', did you mean layer?"
    many = "".join("zoo:rgb2depth,b c\n" for _ in range(50))
    with pytest.raises(ManifestError, match="and 30 more"):
        read(tmp_path, f"uri,name\n{many}", "zoo.csv")
    (cells,) = mistakes(tmp_path, "name,uri\na,zoo:rgb2depth,x\n", "zoo.csv")
    assert "3 cells, but 2 columns" in cells


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "[[model]\n", "it is not TOML"),
        ("a.toml", "", "it has no [[model]]"),
        ("a.toml", "model = 3", "write [[model]] before each"),
        ("a.csv", "name,uri\n", "no row below the header"),
        ("a.csv", 'name,uri\n"a,zoo:x\n', "it is not CSV"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, text: str, words: str) -> None:
    assert any(words in told for told in mistakes(tmp_path, text, name))


def test_a_catalog_is_found_by_its_name_and_a_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert manifest.find("paper").parent == manifest.CATALOGS
    Path("paper").write_text("", "utf-8")
    assert manifest.find("paper") == Path("paper")
    with pytest.raises(NotFoundError, match="there is no manifest papr") as caught:
        manifest.read("papr")
    assert caught.value.hint.startswith("did you mean paper?")
    assert "paper, zoo" in caught.value.hint
    with pytest.raises(UsageError, match="is a folder"):
        manifest.read(tmp_path)


def test_addresses_of_packages_and_names_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    (tmp_path / "resnet50.tv_in1k").touch()
    text = "uri\n" + "\n".join(
        ["python:my.package:make", "zoo:rgb2depth", "file:net.pt2", "python:sub/nets.py:make", "onnx:/abs/net.onnx"]
    )
    uris = [entry.model for entry in read(tmp_path, text, "zoo.csv")]
    assert uris == [
        "python:my.package:make",
        "zoo:rgb2depth",
        f"file:{tmp_path}/net.pt2",
        f"python:{tmp_path}/sub/nets.py:make",
        "onnx:/abs/net.onnx",
    ]


def test_dictionaries_are_checked_like_files(tmp_path: Path) -> None:
    (entry,) = manifest.from_mappings([{"model": "zoo:rgb2depth", "input_size": (32, 48), "task": None}])
    assert entry.options == {"model": "zoo:rgb2depth", "preprocessing": PreprocessingFlags((32, 48))}
    with pytest.raises(ManifestError, match=r"model 1: unknown key 'lyer', did you mean layer\?"):
        manifest.from_mappings([{"model": "zoo:rgb2depth", "lyer": "x"}])


def test_the_catalog_of_the_zoo_is_the_zoo() -> None:
    entries = manifest.read("zoo")
    assert [entry.name for entry in entries] == zoo.names()
    assert [entry.model for entry in entries] == [f"zoo:{name}" for name in zoo.names()]


def test_the_catalog_of_the_paper_has_its_two_tables() -> None:
    from modelspace import evaluation

    entries = manifest.read("paper")
    tables = [entry.options["tags"]["table"] for entry in entries]
    assert (tables.count("taskonomy"), tables.count("collected")) == (20, 18)
    assert {entry.name for entry in entries[:20]} == set(evaluation.load("taskonomy").sources)
    assert all(bool(entry.model) != bool(entry.needs) for entry in entries)
    assert all({"group", "input", "layer"} <= set(entry.options["tags"]) and entry.options["data"] for entry in entries)


def test_the_addresses_of_the_paper_are_encoders_that_are_there() -> None:
    from modelspace.sources import taskonomy

    for entry in manifest.read("paper")[:20]:
        encoder = taskonomy.find(entry.model.partition(":")[2])
        assert encoder.original == entry.name


@pytest.mark.parametrize(("kind", "names"), [("toml", ["resnet18", None, "fcrn_depth"]), ("csv", ["resnet18"])])
def test_the_examples_of_the_documentation_are_manifests(tmp_path: Path, kind: str, names: list[str | None]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "many-models.md").read_text("utf-8")
    example = page.split(f"```{kind}\n")[1].partition("```")[0]
    entries = read(tmp_path, example, f"example.{kind}")
    assert [entry.name for entry in entries] == names
    assert entries[0].options["tags"]["group"] == "semantic"
    assert entries[0].options["preprocessing"] == PreprocessingFlags(
        (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )


def test_every_catalog_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "many-models.md").read_text("utf-8")
    for name in manifest.catalogs():
        assert f"| `{name}` |" in page
    assert f"has an address for {sum(bool(entry.model) for entry in manifest.read('paper'))} of them" in page


def test_reading_imports_no_torch() -> None:
    import subprocess
    import sys

    program = "import sys; from modelspace.verbs import manifest; manifest.read('paper'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000])
def test_a_toml_file_that_is_too_deep_or_has_too_many_digits(tmp_path, value):
    (tmp_path / "zoo.toml").write_text(f"[[model]]\nuri = 'zoo:depth'\ninput_size = {value}\n")
    with pytest.raises(ManifestError, match="it is not TOML"):
        manifest.read(tmp_path / "zoo.toml")
