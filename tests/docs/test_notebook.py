"""docs/tutorial.ipynb: stored without outputs, and runs in an empty folder."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


def test_the_notebook_has_no_stored_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("nbclient") is None and "CI" not in os.environ,
    reason="nbclient is not installed; it comes with the extra 'dev'",
)
@pytest.mark.long
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MODELSPACE_HOME", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    (picture,) = [output for output in outputs if any(part in str(output) for part in ("image/png", "<svg", "<img"))]
    assert len(str(picture)) > 10_000
    assert "zoo:edge2d" in str(outputs[-1])
