"""The floors of the package: a folder imports only from those below it, so that there are no import cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "modelspace"

#: From the bottom up. A module's room is its folder, or the module itself at the top of the package.
FLOORS = (
    ("late",),
    ("errors", "deprecated", "timing"),
    ("files", "plugins"),
    ("types", "names", "home", "temporary", "frames"),
    ("attribution", "worlds", "representations", "analysis", "scores", "search", "results"),
    ("encoder", "probes", "zoo", "registry", "plots"),
    ("evaluation", "spaces", "tasks"),
    ("sources",),
    ("embedding",),
    ("verbs",),
    ("server",),
    ("workspace",),
    ("cli", "lab"),
)
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}

#: The package lazily names its public classes; `python -m modelspace` is the command line; catalogs hold no code.
OUTSIDE = {"__init__", "__main__", "catalogs"}


def room(module: str) -> str:
    """The room of a module, "modelspace.spaces.index" for example."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(source: str, module: str) -> Iterator[str]:
    """Modules of the package that a source text imports anywhere, also inside functions and only for types."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "modelspace")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide where a name comes from"
            if node.module == "modelspace":
                # Names of the package itself, like ModelSpace, stand for the workspace.
                yield from (
                    f"modelspace.{alias.name}" if alias.name in LEVEL else "modelspace.workspace"
                    for alias in node.names
                    if alias.name != "__version__"
                )
            elif node.module and node.module.startswith("modelspace."):
                yield node.module


def steps_up(sources: dict[str, str]) -> list[str]:
    """Imports that don't lead down, as "room -> room (module)"."""
    return [
        f"{room(module)} -> {room(other)} ({module})"
        for module, source in sources.items()
        for other in imports(source, module)
        if room(module) not in OUTSIDE and room(other) != room(module) and LEVEL[room(other)] >= LEVEL[room(module)]
    ]


def package() -> dict[str, str]:
    return {
        ".".join(("modelspace", *path.relative_to(PACKAGE).with_suffix("").parts)): path.read_text("utf-8")
        for path in PACKAGE.rglob("*.py")
    }


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - OUTSIDE == set(LEVEL)


@pytest.mark.wide
def test_no_import_runs_up_or_stays_on_its_floor() -> None:
    assert steps_up(package()) == []


def test_an_import_that_runs_up_is_seen() -> None:
    for line in (
        "from modelspace.verbs import add",
        "import modelspace.verbs.add",
        "def f():\n    from modelspace.verbs.add import compute",
        "from modelspace import ModelSpace",
        "from modelspace.encoder import layers",
    ):
        assert steps_up({"modelspace.registry.store": line}), line
    assert not steps_up({"modelspace.registry.store": "from modelspace.representations.maps import MapBlock"})


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Each module with those that it imports at run time; a package's `__init__` counts as the module of its name."""
    names = {module.removesuffix(".__init__") for module in sources}
    out: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        tree.body = [node for node in tree.body if not for_types(node)]
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("modelspace"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.add(full if full in names else node.module)
        out[module.removesuffix(".__init__")] = found - {module.removesuffix(".__init__"), "modelspace"}
    return out


def test_no_imports_go_in_a_circle() -> None:
    TopologicalSorter(graph(package())).prepare()
    circle = {"modelspace.a": "from modelspace.b import x", "modelspace.b": "def f():\n    from modelspace import a"}
    with pytest.raises(CycleError):
        TopologicalSorter(graph(circle)).prepare()


def test_docs_list_the_floors_and_every_folder() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    for name in LEVEL:
        assert f"  {name}/" in page or f"  {name}.py" in page, (
            f"{name} is missing from the tree in docs/architecture.md"
        )
