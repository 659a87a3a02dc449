"""The bill of materials names what is installed and what modelspace needs, and is the same every time."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import make_sbom


def test_the_bill_names_what_modelspace_needs() -> None:
    bill = make_sbom.bill()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    versions = {each["name"]: each["version"] for each in bill["components"]}
    wanted = {"captum", "duckdb", "faiss-cpu", "matplotlib", "numpy", "pillow", "rich", "safetensors", "scipy"}
    assert wanted | {"torch", "typer", "umap-learn"} <= set(versions)
    assert not {"pytest", "mypy", "timm", "onnx"} & set(versions), "extras are left out"
    assert all(metadata.version(name) == version for name, version in versions.items())


def test_references_lead_somewhere_and_nothing_is_named_twice() -> None:
    bill = make_sbom.bill()
    names = [bill["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in bill["components"])]
    assert len(names) == len(set(names)) == len(bill["dependencies"])
    assert {each["ref"] for each in bill["dependencies"]} == set(names)
    assert {other for each in bill["dependencies"] for other in each["dependsOn"]} <= set(names)
    (own,) = [each for each in bill["dependencies"] if each["ref"] == names[0]]
    assert len(own["dependsOn"]) >= 12
    assert bill == make_sbom.bill()
