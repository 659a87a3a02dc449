"""Hostile texts, stored in every field of a registry, through every output.

Each text is written straight into a registry file (names, tags, tasks, layers, addresses, descriptions, classes,
notes), and given to the commands that take a text. Then everything that is printed or written is read back:

- No control, direction or invisible character reaches a terminal, also in messages, JSON and completion.
- JSON and CSV parse, and hold the text as it was stored, or the escaped name.
- HTML and SVG have the elements and attributes that they have without the text, so none came from it; SVG is XML.
- Every file lies in the folder that was named.

    python scripts/torture/texts.py [--texts N] [--full] [--seed S] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from modelspace.names import readable_name  # noqa: E402
from torture import commands, small_registry  # noqa: E402

#: Attributes that can run code or load something.
_DANGEROUS = ("href", "src", "srcdoc", "xlink:href", "action", "formaction", "style")

#: The texts, by kind.
TEXTS: dict[str, tuple[str, ...]] = {
    "quotes and lines": (
        "'",
        '"',
        "`",
        "a'b\"c`d",
        "\n",
        "a\nb",
        "a\r\nb",
        "\t",
        "a\x0bb\x0cc",
        "\u2028a\u2029",
        "\\",
        "\\n",
    ),
    "control characters": ("\0", "a\0b", "\x07", "\x7f", "\x1b", "\x85", "\x9b2J", "\x08\x08\x08evil"),
    "terminal sequences": (
        *("\x1b[2J\x1b[H", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1bP+q\x1b\\"),
        *("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "[bold red]markup[/]", "[link=http://evil]x[/link]", ":smile:"),
    ),
    "direction and invisible": (
        "\u202egnp.exe",
        "\u2066a\u2069",
        "\u200f",
        "\u200b",
        "\ufeff",
        "a\u00adb",
        "\U000e0041",
        "שלום",
    ),
    "paths": (
        *("..", ".", "/", "../../x", "/tmp/evil", "C:\\evil", "..\\..\\x", "~", "~/x", "CON", "nul.txt", "a/b", "-rf"),
        *(
            "--help",
            ".hidden",
            "file:///etc/passwd",
            "x.npy",
            "\\\\host\\share",
            "a:b",
            "|id",
            "$(id)",
            ";id",
            "%00",
            "%2e%2e/",
        ),
    ),
    "SQL": (
        "'; DROP TABLE models; --",
        "x' OR 1=1 --",
        '"; SELECT 1; --',
        "/* x */",
        "?",
        "$1",
        "%s",
        "{}",
        "{0}",
        "{name!r}",
    ),
    "HTML and script": (
        *(
            "<script>alert(1)</script>",
            "</script><script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<!--",
            "-->",
        ),
        *(
            "]]>",
            "<![CDATA[x]]>",
            "&lt;b&gt;",
            "&amp;",
            "<svg onload=alert(1)>",
            '" onmouseover="alert(1)',
            "' onload='alert(1)",
        ),
        *("</style><script>alert(1)</script>", "</title><b>", "</text><a href='javascript:alert(1)'>x</a>", "<?xml?>"),
        *("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;", "javascript:alert(1)", "<b>bold</b>", "<"),
    ),
    "formulas": ("=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", '=HYPERLINK("http://evil")', '="a"&"b"'),
    "Markdown and maths": (
        *(
            "# heading",
            "* item",
            "- item",
            "1. item",
            "> quote",
            "```",
            "a|b",
            "[x](http://evil)",
            "![x](http://evil)",
            "---",
        ),
        *(
            "$x$",
            "$",
            "$\\frac{",
            "\\(x\\)",
            "_x_",
            "**x**",
            "<http://evil>",
            "http://evil.example",
            "~~x~~",
            "a  \nb",
            "===",
        ),
    ),
    "newick": ("(a,b);", "a:1", "[c]", ";", ",", "'a''b'", "()", "a b"),
    "length and Unicode": (
        "",
        " ",
        "  a  ",
        "x" * 10_000,
        "é" * 5_000,
        "e\u0301" * 500,
        "漢字" * 200,
        "🎉" * 300,
        "\U0010ffff",
        "ﷺ" * 99,
    ),
    "surrogates": ("\ud800", "a\udcffb", "\udfff\ud800"),
}

#: Texts that files are compared with. In pictures a long label is drawn another way than a short one.
HONEST = ("honest", "an-honest-name-of-thirty-letters")

#: Columns of the registry that hold texts: table -> SQL that sets one row to the text "?".
COLUMNS = {
    "models": "UPDATE models SET name = $1 WHERE model_id = 2; UPDATE models SET task = $1, data = $1, layer = $1,"
    " layer_found_by = $1, architecture = $1, uri = $1, weights_sha256 = $1, tags = map(['group', $2], [$1, $1])"
    " WHERE model_id > 1",
    "spaces": "UPDATE spaces SET name = $1 WHERE method = 'dds'",
    "probe_sets": "UPDATE probe_sets SET name = $1",
    "tasks": "UPDATE tasks SET name = $1, location = $1, data_sha256 = $1, classes = [$1, $1] WHERE task_id = 1",
    "outcomes": "UPDATE outcomes SET note = $1, how = $1, checksum = NULL WHERE outcome_id < 3;"
    " UPDATE outcomes SET model = $1, model_id = NULL, score = NULL, checksum = NULL WHERE outcome_id = 3",
}

#: Commands whose output goes to a terminal.
SHOWN = (
    *("list", "show {name}", "nearest curvature", "nearest {name}", "spaces", "probes list", "outcomes", "task list"),
    *(
        "outcomes --task {task}",
        "suggest {task}",
        "verify",
        "tree",
        "tree --format text",
        "heatmap",
        "list --format json",
    ),
    *("list --format csv", "outcomes --format json", "tree --format newick", "tree --format json", "task show {task}"),
    *(
        "sql FROM{_}catalog",
        "sql FROM{_}tasks",
        "sql FROM{_}outcomes",
        "show {text}",
        "nearest {text}",
        "tag curvature --tag {text}",
    ),
    *("tag curvature --tag k={text} --task {text} --data {text}", "rename curvature {text}", "list --where {text}"),
    *("sql {text}", "task add {text}", "observe {task} curvature 0.5 --note {text} --how {text}", "merge {text}"),
    *(
        "add {text}",
        "add zoo:{text}",
        "evaluate --oracle {text}",
        "outcomes --task {text}",
        "nearest curvature --space {text}",
    ),
    *("list --home {text}", "export {out}/new --what {text}", "{text}", "list --{text}", "list --format {text}"),
    *("tree --group-by {text}", "init --method {text}", "layers {text}", "gallery {text} --out {out}/g.svg"),
)

#: Commands that write files: words -> suffix of the picture or page, "" for a folder.
WRITTEN = {
    "export {out}/parquet": "",
    "export {out}/csv --format csv": "",
    "export {out}/json --format json": "",
    "export {out}/maps --what maps --space gradient_x_input": "",
    "atlas --out {out}/atlas.html --title {text}": ".html",
    "report --out {out}/report.html --title {text}": ".html",
    "report --out {out}/report.md --title {text}": ".md",
    "map --out {out}/map.svg --title {text}": ".svg",
    "tree --out {out}/tree.svg --title {text}": ".svg",
    "heatmap --out {out}/heatmap.svg --title {text}": ".svg",
    "gallery curvature {name} --space gradient_x_input --image 0 --out {out}/gallery.svg": ".svg",
}


class Elements(HTMLParser):
    """Elements of a page with the names of their attributes, and the values of the dangerous ones."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: set[tuple[str, tuple[str, ...], tuple[str, ...]]] = set()
        self.names: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.names[tag] += 1
        # Glyphs are elements of the same file, "#DejaVuSans-20".
        values = [re.split("[:#]", value or "")[0][:40] for name, value in attrs if name in _DANGEROUS]
        self.seen.add((tag, tuple(name for name, _ in attrs), tuple(values)))


class Texts:
    """Texts tried on copies of one registry.

    Attributes:
        failures: what went wrong, each with the text and the command.
        inputs: number of (text, command) pairs.
        refused: of them, refused in a sentence.
        escaped: outputs in which a text was shown escaped.
    """

    def __init__(self, folder: Path, written: Sequence[str] = tuple(WRITTEN)) -> None:
        self.folder, self.written = folder, written
        self.base = small_registry.create(folder / "base")
        self.failures: list[str] = []
        self.inputs, self.refused, self.escaped, self.files = 0, 0, 0, 0
        (folder / "sentinel").write_text("no output")
        self.pages: dict[str, Elements] = {}
        for text in HONEST:
            home = self._stored(text)
            for words in written:
                if text == HONEST[0] or ".svg" in words:
                    self._note(text, words, self._written(home, words, text))

    def try_text(self, text: str, shown: Sequence[str] = SHOWN, *, pictures: bool) -> None:
        """Store a text in every field, and run commands: those that show texts, and those that write files."""
        home = self._stored(text)
        for words in shown:
            self._note(text, words, self._shown(home, words, text))
        for words in self.written if pictures else self.written[:4]:
            self._note(text, words, self._written(home, words, text))

    def _note(self, text: str, words: str, faults: list[str]) -> None:
        self.failures += [f"{text[:60]!r}, {words}: {fault}" for fault in faults]

    def _stored(self, text: str) -> Path:
        """A registry with the text in every field; only the fields of commands where DuckDB can't store it."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.base, home)
        with duckdb.connect(home / "registry.duckdb") as duck:
            for statements in COLUMNS.values():
                for statement in statements.split("; "):
                    values = {"1": text, "2": text or "key"} if "$2" in statement else {"1": text}
                    try:
                        duck.execute(statement, values)
                    except duckdb.InvalidInputException:
                        continue  # a lone surrogate
        return home

    def _words(self, words: str, text: str) -> list[str]:
        name = readable_name(text) if not _has_surrogate(text) else "denoise"
        task = readable_name(text) if not _has_surrogate(text) else "flowers"
        out = str(self.folder / "out")
        parts = {"{text}": text, "{name}": name, "{task}": task, "{out}": out, "{_}": " "}
        filled = []
        for word in words.split(" "):
            for mark, part in parts.items():
                word = word.replace(mark, part)
            filled.append(word)
        return filled

    def _run(self, home: Path, words: str, text: str) -> tuple[commands.Answer, list[str]]:
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        before = commands.files(self.folder)
        filled = self._words(words, text)
        if "--home" not in filled and not words.startswith("layers"):
            at = 2 if words.startswith(("probes", "task ")) else 1
            filled[at:at] = ["--home", str(home)]
        with contextlib.chdir(out):  # where some commands write by default
            answer = commands.run(filled, terminal=words in SHOWN)
        self.inputs += 1
        self.refused += answer.refused
        faults = answer.faults()
        outside = commands.changed_outside(before, self.folder, ("out/", "home/index/", "home/registry.duckdb"))
        if outside:
            faults.append(f"files outside were changed: {outside[:5]}")
        return answer, faults

    def _shown(self, home: Path, words: str, text: str) -> list[str]:
        answer, faults = self._run(home, words, text)
        output = answer.output.decode("utf-8", "surrogateescape")
        if controls := commands.control_characters(output):
            faults.append(f"control characters on the screen: {controls}")
        if answer.code == 0 and "--format json" in words:
            faults += _checked(json.loads, output)
        if text and text not in output and (readable_name(text) in output if not _has_surrogate(text) else False):
            self.escaped += 1
        return faults

    def _written(self, home: Path, words: str, text: str) -> list[str]:
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        answer, faults = self._run(home, words, text)
        if answer.code:
            return [*faults, f"it was refused: {answer.errors[-300:]}"]
        for file in sorted((self.folder / "out").rglob("*")):
            if file.is_file():
                self.files += 1
                faults += [f"{file.name}: {fault}" for fault in self._read(file, text)]
        return faults

    def _read(self, file: Path, text: str) -> list[str]:
        if file.suffix in (".html", ".svg"):
            return self._elements(file, text)
        if file.suffix == ".json":
            return _checked(json.loads, file.read_text("utf-8"))
        if file.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline="")))
            return [] if len({len(row) for row in rows}) <= 1 else ["rows of different length"]
        if file.suffix == ".nwk":
            return _newick_faults(file.read_text("utf-8"))
        if file.name.endswith(".names.txt"):
            return [] if len(file.read_text("utf-8").splitlines()) == len(small_registry.NAMES) else ["a name is cut"]
        if file.suffix == ".parquet":
            with duckdb.connect() as duck:
                duck.execute(f"FROM read_parquet('{file}')").fetchall()
        elif file.suffix == ".md":
            controls = commands.control_characters(file.read_text("utf-8"))
            return [f"control characters: {controls}"] if controls else []
        elif file.suffix != ".npy":
            return ["an unknown kind of file"]
        return []

    def _elements(self, file: Path, text: str) -> list[str]:
        content = file.read_text("utf-8")
        page = Elements()
        page.feed(content)
        key = (
            f"{file.parent.name}/{file.name}" if file.suffix == ".svg" and "pictures" in file.parent.name else file.name
        )
        honest = self.pages.setdefault(key, page)
        if text in HONEST:
            honest.seen |= page.seen
        faults = []
        if new := page.seen - honest.seen:
            faults.append(f"elements or attributes that came from a text: {sorted(new)[:5]}")
        if page.names["script"] != honest.names["script"]:
            faults.append(f"{page.names['script']} scripts instead of {honest.names['script']}")
        if file.suffix == ".svg":
            faults += _checked(ElementTree.fromstring, content)
        if controls := commands.control_characters(content, keep="\n\r\t"):
            faults.append(f"control characters in the file: {controls}")
        return faults


def _has_surrogate(text: str) -> bool:
    return any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _checked(parse: Any, text: str) -> list[str]:
    try:
        parse(text)
    except Exception as error:
        return [f"it does not parse: {type(error).__name__}: {error}"]
    return []


def _newick_faults(text: str) -> list[str]:
    """Whether a tree has the right number of leaves, with quoted labels skipped."""
    bare = re.sub(r"'(?:[^']|'')*'", "q", text)
    leaves = bare.count(",") + 1
    return (
        []
        if leaves == len(small_registry.NAMES) and bare.count("(") == bare.count(")")
        else [f"it is broken: {text[:200]}"]
    )


def figures(tried: Texts, texts: int) -> dict[str, float | str]:
    """What was tried and what came of it."""
    return {
        "texts": texts,
        "texts given to commands": tried.inputs,
        "refused in a sentence": tried.refused,
        "shown escaped": tried.escaped,
        "files read back": tried.files,
        "failures": len(tried.failures),
    }


def main() -> int:
    """Run the program; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=4, help="number of texts, drawn at random")
    parser.add_argument("--full", action="store_true", help="all texts")
    parser.add_argument("--only", help="only texts of this kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    start = time.monotonic()
    os.environ["NO_COLOR"] = "1"
    rng = random.Random(options.seed)
    chosen = [text for kind, texts in TEXTS.items() for text in texts if options.only in (None, kind)]
    if not options.full and options.only is None:
        chosen = rng.sample(chosen, min(options.texts, len(chosen)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELSPACE_CACHE"] = str(Path(folder) / "cache")
        tried = Texts(Path(folder) / "tried")
        for number, text in enumerate(chosen):
            count = len(tried.failures)
            tried.try_text(text, pictures=number % 3 == 0 or not options.full or options.only is not None)
            for failure in tried.failures[count:]:
                print(failure, flush=True)
    report = figures(tried, len(chosen))
    if options.out:
        content = {"figures": report, "seconds": round(time.monotonic() - start, 1)}
        options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print("; ".join(f"{label}: {value}" for label, value in report.items()))
    return int(bool(tried.failures))


if __name__ == "__main__":
    sys.exit(main())
