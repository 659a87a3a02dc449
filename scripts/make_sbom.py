"""Write a bill of materials of a release: modelspace and all that it needs, as installed here, in CycloneDX 1.5 (JSON).

    python scripts/make_sbom.py --out dist/modelspace.cdx.json

Names, versions and licences come from the metadata of the installed packages, and what needs what from their
requirements, without the extras of modelspace. The same environment gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "modelspace-db"


def needs(name: str, extras: frozenset[str] = frozenset()) -> list[Requirement]:
    """The requirements of an installed package that apply here."""
    applicable = []
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            applicable.append(requirement)
    return applicable


def closure(root: str = ROOT) -> dict[str, set[str]]:
    """Name of each package that is needed, directly or not -> names of those that it needs.

    Raises:
        PackageNotFoundError: one is not installed.
    """
    graph: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        requirements = needs(name, extras)
        graph.setdefault(name, set()).update(canonicalize_name(each.name) for each in requirements)
        waiting += [(canonicalize_name(each.name), frozenset(each.extras)) for each in requirements]
    return graph


def component(name: str) -> dict[str, Any]:
    """A package as a component of CycloneDX."""
    information = metadata.metadata(name)
    # Older packages put the whole text of the licence into "License".
    licence = information.get("License-Expression") or (information.get("License") or "").strip().partition("\n")[0]
    return {
        "type": "application" if name == ROOT else "library",
        "bom-ref": reference(name),
        "name": name,
        "version": metadata.version(name),
        "purl": reference(name),
        **({"licenses": [{"license": {"name": licence[:200]}}]} if licence else {}),
    }


def reference(name: str) -> str:
    """The package URL of an installed package."""
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def bill() -> dict[str, Any]:
    """The bill of materials."""
    graph = closure()
    others = sorted(set(graph) - {ROOT})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(ROOT)},
        "components": [component(name) for name in others],
        "dependencies": [
            {"ref": reference(name), "dependsOn": sorted(map(reference, graph[name]))} for name in (ROOT, *others)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist") / "modelspace.cdx.json", help="the file to write")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    content = bill()
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(f"{arguments.out}: {len(content['components'])} packages")


if __name__ == "__main__":
    main()
