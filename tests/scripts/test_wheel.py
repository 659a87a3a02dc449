"""The wheel: small, complete, reproducible, and working without a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import modelspace

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "build_wheel.py"

MOST_BYTES = 20_000_000


def build(out: Path, cwd: Path, umask: int) -> Path:
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(out)], cwd=cwd, umask=umask, check=True)
    (wheel,) = out.iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"), ROOT, 0o022)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with only the wheel; its dependencies come from the current environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # A folder named in a .pth file comes last, and .pth files in it, as of an editable installation, are not read.
    (site / "others.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return folder


def run(command: list[str], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MODELSPACE_HOME")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.wide
def test_it_is_small_and_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size <= MOST_BYTES
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "modelspace").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "lab" not in path.relative_to(ROOT).parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = {name for name in names if ".dist-info/" in name}
    manual = {name for name in names if name.endswith(".data/data/share/man/man1/modelspace.1")}
    assert len(manual) == 1
    assert names - info - manual == package
    assert {Path(name).name for name in info} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE", "top_level.txt",
    }  # fmt: skip
    suffixes = {Path(name).suffix for name in package}
    data = {".sql", ".json", ".csv", ".gz", ".safetensors", ".toml", ".html", ".css", ".js"}
    assert suffixes == {".py", ".typed", *data}


def test_the_list_of_files_can_fail(wheel: Path) -> None:
    """The checkout contains training code, so that this test can fail."""
    assert (ROOT / "modelspace" / "lab" / "training.py").is_file()
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "lab" in Path(name).parts or "tests" in Path(name).parts]


@pytest.mark.wide
def test_it_is_the_same_every_time(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    again = build(tmp_path / "dist", tmp_path / "elsewhere", 0o077)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.wide
@pytest.mark.slow
def test_installed_in_a_fresh_environment_it_answers(environment: Path, tmp_path: Path) -> None:
    # As pipx and uv tool do it: a link to the console script, in a folder of its own.
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "modelspace"
    command.symlink_to(environment / "bin" / "modelspace")
    folder = tmp_path / "work"
    folder.mkdir()
    said = run([str(command), "--version"], folder).stdout
    assert modelspace.__version__ in said
    assert (environment / "share" / "man" / "man1" / "modelspace.1").is_file()
    where = run([str(environment / "bin" / "python"), "-c", "import modelspace; print(modelspace.__file__)"], folder)
    assert Path(where.stdout.strip()).is_relative_to(environment)

    run([str(command), "init", "--images", "10", "--canvas", "16"], folder)
    models = ("rgb2depth", "reshade", "class_1000")
    (folder / "models.toml").write_text("".join(f'[[model]]\nuri = "zoo:{name}"\n' for name in models))
    run([str(command), "add", "--manifest", "models.toml", "--device", "cpu"], folder)
    found = json.loads(run([str(command), "nearest", "rgb2depth", "--format", "json"], folder).stdout)
    assert [row["name"] for row in found] == ["reshade", "class_1000"]
    assert "oracle" in run([str(command), "evaluate", "--help"], folder).stdout


@pytest.mark.wide
def test_what_training_needs_is_not_installed(environment: Path, tmp_path: Path) -> None:
    python = str(environment / "bin" / "python")
    for name in ("modelspace.lab", "modelspace.lab.training", "modelspace.zoo.training"):
        done = run([python, "-c", f"import {name}"], tmp_path, code=1)
        assert "No module named 'modelspace.lab'" in done.stderr
    run([python, "-c", "from modelspace import zoo; zoo.load('rgb2depth')"], tmp_path)
