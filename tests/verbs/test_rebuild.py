"""`rebuild` where the index files can't be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import add, net, space
from typer.testing import CliRunner
from unprivileged_reader import open_folder, unprivileged

from modelspace.cli.app import app
from modelspace.errors import StorageError
from modelspace.home import INDEX


@pytest.mark.wide
def test_a_read_only_folder_is_an_error_that_names_what_was_not_written() -> None:
    with open_folder() as folder:
        registry = space(folder / "home", images=4, methods=["saliency", "gradient_x_input"])
        add(registry, "a", net(0))
        add(registry, "b", net(1))
        expected = registry.nearest("a")[0].affinity
        index = registry.home / INDEX
        registry.home.chmod(0o755)
        before = {file.name: file.read_bytes() for file in index.iterdir()}
        index.chmod(0o555)
        with unprivileged():
            with pytest.raises(StorageError) as raised:
                registry.rebuild()
            result = CliRunner().invoke(app, ["rebuild", "--home", str(registry.home)])
            assert registry.nearest("a")[0].affinity == expected
        assert raised.value.message == (
            f"the index files of saliency, gradient_x_input were not written: {index}: Permission denied"
        )
        assert "`space.rebuild()`" in raised.value.hint
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "rebuilt" not in result.stderr
        assert {file.name: file.read_bytes() for file in index.iterdir()} == before
        index.chmod(0o755)
        assert len(registry.rebuild()) == 2


@pytest.mark.wide
def test_recomputed_vectors_are_kept_and_said(tmp_path: Path) -> None:
    registry = space(tmp_path, images=4, methods=["saliency"])
    add(registry, "a", net(0))
    for file in (registry.home / INDEX).iterdir():
        file.unlink()
    (registry.home / INDEX).rmdir()
    (registry.home / INDEX).write_text("a file in place of the folder")
    with pytest.raises(StorageError, match=r"^the vectors are recomputed, but the index files of saliency were not"):
        registry.rebuild(coordinates=True)


@pytest.mark.wide
def test_rebuild_replaces_files_that_are_fresh(tmp_path: Path) -> None:
    registry = space(tmp_path, images=4, methods=["saliency"])
    add(registry, "a", net(0))
    files = sorted((registry.home / INDEX).iterdir())
    inodes = [file.stat().st_ino for file in files]
    times = [file.stat().st_mtime_ns for file in files]
    registry.rebuild()
    assert sorted((registry.home / INDEX).iterdir()) == files
    assert [file.stat().st_mtime_ns for file in files] != times or [file.stat().st_ino for file in files] != inodes
