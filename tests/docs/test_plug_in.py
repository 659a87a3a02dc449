"""The example of docs/how-to/write-a-plug-in.md: installed, and used; and plug-ins that are broken, or take a name."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from modelspace import attribution, sources
from modelspace.errors import EmbeddingError, UsageError
from modelspace.plugins import PlugInWarning, Table
from modelspace.sources.base import SourceInfo
from modelspace.workspace import ModelSpace

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "write-a-plug-in.md").read_text("utf-8")
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
INPUT = {"input_size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def install_by_hand(folder: Path, name: str, code: str, entry_points: str) -> None:
    """What pip leaves: a module, and the metadata that name its entry points."""
    (folder / f"{name}.py").write_text(code, "utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


def points(project: str) -> str:
    """The entry points of a pyproject.toml as setuptools writes them."""
    import tomllib

    groups = tomllib.loads(project)["project"]["entry-points"]
    return "\n".join(
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in rows.items())
        for group, rows in groups.items()
    )


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder on the path, and tables that have not read any plug-in."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    for table in (sources.SOURCES, attribution.METHODS):
        monkeypatch.setattr(table, "_added", None)
    for name in ("modelspace_npz", "broken_one", "thief"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def archive(path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"kernel_0": rng.normal(size=(8, 3, 3, 3)), "bias_0": rng.normal(size=8)}
    np.savez(path, **{name: value.astype(np.float32) for name, value in arrays.items()})
    return path


@pytest.mark.wide
def test_the_example_is_short_and_adds_a_source_and_a_method(fresh: Path, tmp_path: Path) -> None:
    assert len(FILES["modelspace_npz.py"].splitlines()) <= 35
    install_by_hand(fresh, "modelspace_npz", FILES["modelspace_npz.py"], points(FILES["pyproject.toml"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = ModelSpace.create(tmp_path / "registry", methods=["brightness", "saliency"], images=3, canvas=8)
        added = space.add(f"npz:{archive(tmp_path / 'net.npz')}", name="mine", preprocessing=INPUT)
    assert set(added.spaces) == {"brightness", "saliency"}
    # The maps are the images, preprocessed and averaged over channels.
    images = (space.probe_images(images=range(3)) / 255 - 0.5).mean(-1).reshape(3, 8, 16, 8, 16).mean((2, 4))
    images /= np.linalg.norm(images, axis=(1, 2), keepdims=True)
    cosines = (space.maps("mine", "brightness") * images).sum((1, 2))
    assert cosines.min() > 0.98
    assert "npz" in sources.SOURCES
    assert "npz" in str(list(sources.SOURCES))


@pytest.mark.wide
@pytest.mark.slow
def test_pip_installs_the_example(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text, "utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(project)], check=True, timeout=180)
    archive(tmp_path / "net.npz")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        f"from modelspace import sources\nprint(sources.load('npz:net.npz', preprocessing={INPUT!r}).parameters)\n"
    ).replace(repr(INPUT), f"sources.PreprocessingFlags.from_dict({INPUT!r})")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "224\n", done.stderr


def test_a_broken_plug_in_is_named_and_everything_else_works(fresh: Path) -> None:
    install_by_hand(fresh, "broken_one", "1 / 0", "[modelspace.sources]\nb = broken_one:ROW\n")
    install_by_hand(fresh, "modelspace_npz", FILES["modelspace_npz.py"], points(FILES["pyproject.toml"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sources.parse_uri("zoo:depth") == ("zoo", "depth"), "built-in names read no plug-in"
    with pytest.warns(PlugInWarning) as caught:
        assert sources.parse_uri("npz:net.npz") == ("npz", "net.npz")
    (warning,) = caught
    said = "the plug-in 'b' of the package broken-one is left out: ZeroDivisionError: division by zero"
    assert str(warning.message) == said


ROW = "from modelspace.sources.base import SourceInfo\nROW = SourceInfo('{}', '{}', 's', 'e')"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "from modelspace.sources.base import SourceInfo\nROW = SourceInfo('zoo', 'thief', 's', 'e')",
            "'zoo' is taken",
        ),
        ("from modelspace.sources.base import SourceInfo\nROW = SourceInfo('live', 'thief', 's', 'e')", "'live' can't"),
        ("from modelspace.sources.base import SourceInfo\nROW = SourceInfo('A b', 'thief', 's', 'e')", "'A b' can't"),
        ("ROW = 3", "thief:ROW is a int, not a SourceInfo"),
        ("", "AttributeError"),
    ],
)
def test_a_name_that_is_taken_or_wrong_is_refused(fresh: Path, code: str, words: str) -> None:
    install_by_hand(fresh, "thief", code, "[modelspace.sources]\nt = thief:ROW\n")
    before = sources.SOURCES["zoo"]
    with pytest.warns(PlugInWarning, match=words):
        assert set(sources.SOURCES) == set(sources.SOURCES.built_in)
    assert sources.SOURCES["zoo"] is before


def test_of_two_plug_ins_with_one_name_the_second_is_left_out(fresh: Path) -> None:
    install_by_hand(fresh, "broken_one", ROW.format("npz", "broken_one"), "[modelspace.sources]\na = broken_one:ROW\n")
    install_by_hand(fresh, "thief", ROW.format("npz", "thief"), "[modelspace.sources]\nb = thief:ROW\n")
    with pytest.warns(PlugInWarning, match="'b' of the package thief is left out: 'npz' is taken by another plug-in"):
        assert sources.SOURCES["npz"].module == "broken_one"


METHOD = "from modelspace.attribution import MethodInfo\nROW = MethodInfo({0})\ndef maps(forward, x):\n    {1}\n"


@pytest.mark.sampled(2)
@pytest.mark.wide
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return x.mean(1)", "gives maps of shape (2, 64, 64) for an input of (2, 3, 64, 64)"),
        ("1 / 0", "fails: division by zero"),
    ],
)
def test_a_method_that_fails_is_an_error_of_that_model(fresh: Path, tmp_path: Path, body: str, words: str) -> None:
    row = "'poor', 's', signed=True, captum=True, function='thief:maps'"
    install_by_hand(fresh, "thief", METHOD.format(row, body), "[modelspace.methods]\nt = thief:ROW\n")
    space = ModelSpace.create(tmp_path / "registry", methods=["poor"], images=3, canvas=8)
    with pytest.raises(EmbeddingError) as caught:
        space.add("zoo:rgb2depth")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("'poor', 's', signed=True", "needs captum=True and function="),
        ("'dds', 's', signed=True, captum=True, function='thief:maps'", "'dds' can't be the name of a method"),
        ("'saliency', 's', signed=True, captum=True, function='thief:maps'", "'saliency' is taken"),
        (
            "'mine', 's', signed=True, captum=True, function='thief:maps', defaults={'smoothing': 0.1}",
            "'smoothing' has the name of one of every space of maps",
        ),
    ],
)
def test_a_method_that_could_not_be_stored_is_refused(fresh: Path, row: str, words: str) -> None:
    install_by_hand(fresh, "thief", METHOD.format(row, "return x"), "[modelspace.methods]\nt = thief:ROW\n")
    with pytest.warns(PlugInWarning, match=words):
        assert set(attribution.METHODS) == set(attribution.METHODS.built_in)


def test_without_its_plug_in_a_space_says_what_is_missing(fresh: Path, tmp_path: Path) -> None:
    install_by_hand(fresh, "modelspace_npz", FILES["modelspace_npz.py"], points(FILES["pyproject.toml"]))
    space = ModelSpace.create(tmp_path / "registry", methods=["saliency", "brightness"], images=3, canvas=8)
    attribution.METHODS._added = {}
    with pytest.raises(UsageError, match="uses method 'brightness'") as caught:
        space.add("zoo:rgb2depth")
    assert "plug-in" in caught.value.hint


def test_the_command_line_says_it_in_one_line(fresh: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from modelspace.cli.messages import show_warnings_plainly

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show_warnings_plainly()
        warnings.warn("the plug-in 'x'", PlugInWarning, stacklevel=1)
    assert capfd.readouterr().err == "warning: the plug-in 'x'\n"


def test_a_table_reads_plug_ins_only_when_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table({"a": SourceInfo("a", "m", "s", "e")}, "modelspace.nobody", SourceInfo, "scheme")
    monkeypatch.setattr(table, "_read", lambda: pytest.fail("read"))
    assert table["a"].module == "m"
    assert "a" in table
    monkeypatch.setattr(table, "_read", dict)
    assert (len(table), list(table)) == (1, ["a"])
    with pytest.raises(KeyError):
        table["b"]
