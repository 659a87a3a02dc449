"""A bug report: complete, nothing private, and what is broken is said."""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path

import pytest
import small_spaces
from small_spaces import KERNELS, MAPS

from modelspace.home import REGISTRY
from modelspace.registry import schema
from modelspace.results import Finding
from modelspace.verbs import doctor
from modelspace.workspace import ModelSpace


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with small_spaces.create(folder / REGISTRY, MAPS, KERNELS) as registry:
        for seed in (1, 2, 3):
            small_spaces.add(registry, seed, MAPS, KERNELS)
    return folder


def findings(home: Path, **options: bool) -> dict[str, Finding]:
    return {row.name: row for row in ModelSpace(home).doctor(**options)}


@pytest.mark.wide
def test_a_sound_installation_and_registry(original: Path) -> None:
    found = findings(original)
    assert all(row.ok for row in found.values()), found
    assert set(doctor.REQUIRED) | set(doctor.OPTIONAL) <= set(found)
    assert found["schema"].value == str(len(schema.known()))
    assert found["models"].value == "3"
    assert found["space saliency"].value == "saliency, 12 images, 3 models, default"
    assert found["health"].value.endswith("checks passed")
    assert "cpu" in found["devices"].value
    assert found["last backup"].value == "none"
    ModelSpace(original).backup()
    assert found["last backup"].hint
    assert findings(original)["last backup"].value.startswith("20")


def test_a_missing_registry_is_no_fault(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert found["path"].ok
    assert "create" in found["path"].hint
    assert "health" not in found


def test_damage_is_found(original: Path, tmp_path: Path) -> None:
    home = shutil.copytree(original, tmp_path / "home")
    with small_spaces.Registry.open(home / REGISTRY, write=True) as registry, registry.transaction():
        registry.execute("UPDATE main.embeddings SET position = position + 1")
    failed = [row for row in ModelSpace(home).doctor() if not row.ok]
    assert failed
    assert all(row.name.startswith("health") for row in failed)
    (home / REGISTRY).write_bytes(b"no registry")
    (state,) = (row for row in ModelSpace(home).doctor() if not row.ok)
    assert state.name == "state"


def test_missing_and_broken_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.REQUIRED, "no-such-part", "no_such_part")
    monkeypatch.setitem(doctor.REQUIRED, "pytest", "no_such_module")
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-extra", "timm")
    found = findings(tmp_path)
    assert (found["no-such-part"].ok, found["no-such-part"].value) == (False, "not installed")
    assert not found["pytest"].ok
    assert "can't be imported: ModuleNotFoundError" in found["pytest"].value
    assert (found["no-such-extra"].ok, found["no-such-extra"].hint) == (True, "pip install 'modelspace-db[timm]'")


def test_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "ada"
    (home / "zoo").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setenv("MODELSPACE_HOME", f"{home}/zoo")
    monkeypatch.setenv("PAGER", "/opt/ada/bin/less")
    text = str(findings(home / "zoo"))
    assert "ada" not in text.split()
    assert str(home) not in text
    assert "none in ~/zoo" in text
    assert "/opt/USER/bin/less" in text
    assert str(home) in str(findings(home / "zoo", private=True))
