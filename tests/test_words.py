"""The words of the package: the field's, in plain English. Dialect that crept in once must not come back."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What a reader has to translate, and the plain word.
ODD = {
    r"\bforet(ell|old)": "predict",
    r"\banew\b": "again; rebuild, recompute",
    r"\bso many\b": "this number of",
    r"\btold (after|of|as|about|what|when|that|so|by)\b": "called, reported",
    r"\blaid back\b": "resampled",
    r"\bnobody\b": "no model, no user",
    r"\bwhoever\b": "",
    r"\bwhat is there\b": "existing",
    r"\boddit(y|ies)\b": "outliers",
    r"\bhalves of the (targets|models)\b": "splits",
    r"\bstonework\b": "yard surfaces",
    r"\bbeside (it|them|the (file|index|registry|parts|weights))\b": "next to",
    r"\b(is|are|was|were) not there\b": "is missing, does not exist",
    r"\bmeanwhile\b": "in the meantime",
    r"\bmade to \w+ well\b": "",
}

#: Names that say nothing of what they hold.
EMPTY_NAMES = frozenset({"found", "made", "there", "again", "how", "one", "told", "wanted", "thing", "stuff"})

#: Names that are somebody else's, or words of the field: file of the package -> names.
EXCEPTIONS: dict[str, frozenset[str]] = {
    # `--how finetune` and the column `how` of outcomes
    "modelspace/cli/observe.py": frozenset({"how"}),
    "modelspace/verbs/tasks.py": frozenset({"how"}),
    "modelspace/registry/rows.py": frozenset({"how"}),
    "modelspace/results.py": frozenset({"how"}),
    **dict.fromkeys(
        ("modelspace/cli/try.py", *(f"modelspace/verbs/{name}.py" for name in ("finals", "knowledge", "try_task"))),
        frozenset({"how"}),
    ),
}

#: The table of old names, which the words are part of.
OLD_NAMES = ("modelspace/deprecated.py",)

#: Name from the top of the repository -> file.
FILES = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("modelspace", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in str(path)
}


def words_of(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each comment and each string of a file."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING:
            yield token.start[0], token.string


def odd_words(text: str) -> list[str]:
    """Each odd word with its line, and the plain one."""
    return [
        f"line {line}: {match[0]!r} ({plain})"
        for line, words in words_of(text)
        for pattern, plain in ODD.items()
        for match in re.finditer(pattern, words, re.IGNORECASE)
    ]


def empty_names(text: str) -> list[str]:
    """Each variable, argument or attribute of a class whose name says nothing of what it holds."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in EMPTY_NAMES:
            names.append(f"line {node.lineno}: {node.id}")
        elif isinstance(node, ast.arg) and node.arg in EMPTY_NAMES:
            names.append(f"line {node.lineno}: {node.arg}")
    return names


def test_there_are_files() -> None:
    assert len(FILES) > 200


def test_the_words_are_plain() -> None:
    odd = {name: odd_words(path.read_text("utf-8")) for name, path in FILES.items() if name not in OLD_NAMES}
    assert {name: lines for name, lines in odd.items() if lines} == {}


def test_names_say_what_they_hold() -> None:
    empty = {
        name: [
            line
            for line in empty_names(path.read_text("utf-8"))
            if line.rpartition(" ")[2] not in EXCEPTIONS.get(name, frozenset())
        ]
        for name, path in FILES.items()
    }
    assert {name: lines for name, lines in empty.items() if lines} == {}


def test_odd_words_and_empty_names_are_seen() -> None:
    text = '"""What is there, anew."""\n# told after every batch\nmade = 1\nfor one in ():\n    pass\ndef f(how): ...\n'
    assert [line.partition(":")[0] for line in odd_words(text)] == ["line 1", "line 1", "line 2"]
    assert empty_names(text) == ["line 3: made", "line 4: one", "line 6: how"]
    assert not odd_words("x = 1  # the number of images\n")
