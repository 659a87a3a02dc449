"""No path is made of a stored or user-given text, except by `modelspace.names.file_name`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "modelspace"

#: Where a path is made of something that varies, and why that is no stored text: (file, right-hand side) -> reason.
SAFE = {
    ("plots/report.py", "f'{section.picture_name}.svg'"): "map, tree or heatmap",
    ("plots/report.py", "f'{target.stem}_pictures'"): "the file that the user named",
    ("tasks/cache.py", "f'{name}{_SUFFIX}'"): "a hash",
    ("tasks/script.py", "f'{part}.csv'"): "train or test",
    ("verbs/export.py", "'maps' if name == 'maps' else f'{name}{suffixes[kind]}'"): "a key of WHAT",
    ("verbs/pending.py", "f'.{name}.{os.getpid()}.tmp'"): "next to a file whose name is checked",
    ("verbs/add_many.py", "f'{package}.py'"): "only asked whether it exists",
    ("verbs/manifest.py", "f'{name}.toml'"): "a name in catalogs()",
    ("zoo/__init__.py", "f'{self.name}.safetensors'"): "the name of a card in the package",
    ("registry/copying.py", "f'{name}-{serial}'"): "the name of the registry, a time and a number",
    ("verbs/backup.py", "f'{name}{end}.duckdb'"): "a time and a number",
    ("cli/browser.py", "f'atlas-{key}.html'"): "a hash",
    ("registry/copying.py", "f'{out}.wal'"): "next to a temporary file",
    ("temporary.py", "f'{temporary.name}.lock'"): "next to a temporary file",
    ("temporary.py", "f'.{path.name}.{ending}'"): "next to the file that is written, with numbers",
    ("spaces/index.py", "f'{name}{suffix}'"): "a space id, which is computed, and a correction",
    ("spaces/index.py", "f'{space_id}{suffix}'"): "a space id, which is computed, and a correction",
    ("spaces/derived_files.py", "f'{space_id}{suffix}'"): "a space id, which is computed, and a word of ours",
}

#: What may stand in the name of a file: the name of a file next to it, and numbers.
OF_THE_SAME_FILE = {"file.name", "path.name", "target.name", "os.getpid()"}


def made_of_texts(source: str) -> Iterator[str]:
    """The right-hand sides, with something that varies in a text, of which a piece of code makes paths."""
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in ("with_name", "with_stem", "with_suffix", "joinpath", "Path", "open"):
                parts = node.args
        for part in parts:
            values = {ast.unparse(inner.value) for inner in ast.walk(part) if isinstance(inner, ast.FormattedValue)}
            varies = bool(values - OF_THE_SAME_FILE)
            escaped = isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "file_name"
            if varies and not escaped:
                yield ast.unparse(part)


def test_paths_are_made_of_escaped_texts() -> None:
    texts = {
        (path.relative_to(PACKAGE).as_posix(), text)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "lab" not in path.parts
        for text in made_of_texts(path.read_text("utf-8"))
    }
    assert texts - set(SAFE) == set(), "use modelspace.names.file_name, or say in SAFE why the text is harmless"


def test_such_paths_are_seen() -> None:
    source = 'a = folder / f"{name}.npy"\nb = p.with_name(f".{name}.tmp")\nc = Path(f"{x}/y")\n'
    source += 'd = folder / file_name(f"{x}-1", ".npy")\ne = p.with_name(f".{path.name}.tmp")\n'
    assert list(made_of_texts(source)) == ["f'{name}.npy'", "f'.{name}.tmp'", "f'{x}/y'"]
