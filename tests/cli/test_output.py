"""JSON, CSV and tables: nothing lost for programs, nothing unreadable for people."""

from __future__ import annotations

import csv
import datetime
import decimal
import enum
import io
import json
import math
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import Line, fake_line, model, neighbour

from modelspace.cli import figures, formats, screen, tables
from modelspace.cli.tables import Column
from modelspace.results import ModelInfo, Neighbours, Records


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    return fake_line(monkeypatch, tmp_path)


class Colour(enum.Enum):
    red = "r"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, 0.30000000000000004),
        (2**100, 2**100),
        (True, True),
        (None, None),
        (math.nan, None),
        (-math.inf, None),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 600), "2026-01-02T03:04:05.000600"),
        (datetime.time(3, 4), "03:04:00"),
        (decimal.Decimal("1.50"), 1.5),
        (decimal.Decimal("123456789012345678901234.5"), "123456789012345678901234.5"),
        (decimal.Decimal("42"), 42),
        (decimal.Decimal("NaN"), None),
        (b"\x00\xff", "00ff"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        ({1: (1, {"a": math.nan})}, {"1": [1, {"a": None}]}),
        (Colour.red, "Colour.red"),
    ],
)
def test_values_become_json_types(value: Any, expected: Any) -> None:
    plain = formats.plain(value)
    assert plain == expected
    assert type(plain) is type(expected)
    assert json.loads(formats.to_json([value])) == [expected]


def test_csv_survives_a_round_trip() -> None:
    rows = [["a,b", 'say "x"', "line\nbreak"], ["", "ü", " space "]]
    assert list(csv.reader(io.StringIO(formats.to_csv(["x", "y", "z"], rows)))) == [["x", "y", "z"], *rows]


def test_csv_of_nested_values_is_json() -> None:
    text = formats.to_csv(["a", "b", "c"], [[{"k": [1, 2]}, True, None]])
    row = list(csv.reader(io.StringIO(text)))[1]
    assert (json.loads(row[0]), row[1], row[2]) == ({"k": [1, 2]}, "true", "")


@pytest.mark.parametrize("n", [0, 999, 1000, 999_499, 999_500, 999_999, 1_000_000, 25_557_032, 6_738_415_616])
def test_counts_are_right_to_three_digits(n: int) -> None:
    text = figures.count(n)
    unit = {"k": 1e3, "M": 1e6, "B": 1e9}.get(text[-1], 1)
    assert abs(float(text.rstrip("kMB")) * unit - n) <= 0.005 * n
    assert "e" not in text
    assert len(text) <= 5


@pytest.mark.parametrize("value", [0.0, 0.999, 59.94, 59.96, 60, 3599.4, 3599.6, 90_000])
def test_seconds_never_show_sixty(value: float) -> None:
    assert " 60 " not in f" {figures.seconds(value)}"
    assert "60.0" not in figures.seconds(value)


def test_columns_of_the_same_name_get_numbers(line: Line) -> None:
    from types import SimpleNamespace

    line.answer("sql", SimpleNamespace(columns=["a", "a", "a_2"], rows=[(1, 2, 3)]))
    assert json.loads(line("sql", "x", "--format", "json").stdout) == [{"a": 1, "a_2": 2, "a_2_2": 3}]


def test_utf_8_in_any_locale(line: Line) -> None:
    line.answer("list", Records([model("depth", task="深度")], ModelInfo))
    result = line("list", "--format", "json")
    assert "深度" in result.stdout_bytes.decode("utf-8")


# ---- tables


LONG = "a_very_long_name_of_a_model_that_goes_on.and_on_v1.5-augmented"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def draw(width: int | None, columns: list[Column], rows: list[Any]) -> list[str]:
        monkeypatch.setattr(tables, "_console_width", lambda: width)
        tables.print_table(columns, rows)
        return capsys.readouterr().out.splitlines()

    return draw


def columns() -> list[Column]:
    return [
        Column("rank", lambda row: str(row.rank), right=True),
        Column("model", lambda row: row.name, least=28, fold=True),
        Column("affinity", lambda row: f"{row.affinity:.4f}", right=True),
        Column("task", lambda row: row.task, rank=1, least=10),
        Column("uri", lambda row: row.uri, rank=2, least=16),
    ]


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120])
def test_a_table_fits_and_no_name_is_lost(at: Any, width: int) -> None:
    lines = at(width, columns(), [neighbour(1, LONG, 0.5), neighbour(2, "b", 0.25)])
    assert max(map(len, lines)) <= width
    start = lines[0].index("model")
    end = lines[0].index("affinity") - 1
    name = "".join(text[start:end].strip() for text in lines[1 : lines.index(next(t for t in lines if " b " in t))])
    assert name == LONG
    assert all("0.5000" in "".join(lines) and "0.2500" in "".join(lines) for _ in lines)


def test_the_least_important_columns_are_dropped_first_and_named(at: Any) -> None:
    rows = [neighbour(1, "normals", 0.5)]
    wide, middle, narrow = (at(width, columns(), rows) for width in (100, 42, 30))
    assert "uri" in wide[0]
    assert "no room" not in wide[-1]
    assert "task" in middle[0]
    assert "uri" not in middle[0]
    assert "no room for uri" in middle[-1]
    assert "task" not in narrow[0]
    assert "no room for task, uri" in " ".join(narrow)


def test_nothing_is_truncated_in_a_pipe(at: Any) -> None:
    rows = [neighbour(1, LONG, 0.5, uri="zoo:net", task="t")]
    lines = at(None, columns(), rows)
    assert len(lines) == 2
    assert LONG in lines[1]
    assert lines[1].endswith("zoo:net")
    assert not any(text != text.rstrip() for text in lines)


def test_a_piped_table_is_narrow_unless_it_has_to_be_complete(at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [neighbour(1, LONG, 0.5, task=f"task {LONG}")]
    lines = at(None, columns(), rows)
    assert max(map(len, lines)) <= tables.PIPE_WIDTH
    assert lines[-1] == "no room for task, uri; --format json has them"
    assert len(lines[0]) < 90  # not padded for what is not shown
    tables.print_table(columns(), rows, complete=True)
    assert capsys.readouterr().out.splitlines()[1].endswith(f"task {LONG}  zoo:{LONG}")


def test_a_ranking_of_80_columns_has_what_is_typed_next(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_console_width", lambda: 80)
    rows = [neighbour(1, "segmentsemantic", 0.5), neighbour(2, "fcn", 0.25, uri="timm:resnet50.a1_in1k")]
    line.answer("nearest", Neighbours(rows, "t", "s"))
    _, head, *lines = line("nearest", "t").stdout.splitlines()
    assert head.split() == ["rank", "name", "affinity", "95%", "interval", "uri", "task"]
    assert max(map(len, lines)) <= 80
    assert "distance" not in head


def test_an_empty_optional_column_is_dropped(at: Any) -> None:
    optional = [*columns()[:3], Column("note", lambda row: row.data or "", optional=True)]
    assert "note" not in at(80, optional, [neighbour(1, "a", 0.5, data=None)])[0]
    assert "note" in at(80, optional, [neighbour(1, "a", 0.5, data=None), neighbour(2, "b", 0.5, data="x")])[0]


def test_wide_characters_keep_the_columns_in_line(at: Any) -> None:
    from rich.cells import cell_len

    lines = at(None, columns(), [neighbour(1, "a", 0.5, task="深度估计"), neighbour(2, "b", 0.5, task="depth")])
    places = [cell_len(text[: text.index("zoo:")]) for text in lines[1:]]
    assert places[0] == places[1]


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", out)
    assert tables.tie() == "~"
    tables.print_line("深")
    out.flush()
    assert out.buffer.getvalue() == b"?\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("env", "expected"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_only_in_a_terminal_that_allows_it(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], expected: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert screen.wants_colour(Terminal()) is expected
    assert screen.wants_colour(io.StringIO()) is False


# ---- a real terminal

DRIVER = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
import pytest
from cli_support import fake_line, neighbour
from modelspace.cli import main
from modelspace.results import Neighbours
line = fake_line(pytest.MonkeyPatch(), Path({home!r}))
def add(uri, *, progress=None, **options):
    from modelspace.results import Added
    from cli_support import card
    for done in range(4 if progress else 0):
        progress(done + 1, 4)
    return Added("depth", "added", ("gradient_x_input",), card("depth"))
line.answer("add", add)
main(sys.argv[1:])
"""


def in_terminal(home: Path, words: list[str], columns: int, env: dict[str, str]) -> str:
    """What a terminal with this number of columns receives from both outputs."""
    import fcntl
    import pty
    import struct
    import termios

    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    code = DRIVER.format(tests=str(Path(__file__).parents[1] / "support"), home=str(home))
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**inherited, "TERM": "xterm", **env},
    )
    os.close(terminal)
    received = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # on Linux: the other side is closed
            break
        if not chunk:
            break
        received += chunk
    os.close(main)
    assert process.wait(60) == 0, received
    return received.decode()


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix only")
def test_a_real_terminal_gets_bold_and_its_own_width(tmp_path: Path) -> None:
    text = in_terminal(tmp_path, ["nearest", "depth"], 50, {})
    assert "\x1b[1m" in text
    assert "no room for" in text
    plain = in_terminal(tmp_path, ["nearest", "depth"], 130, {"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert "no room for" not in plain
    assert "zoo:normals" in plain


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix only")
def test_a_long_table_goes_through_the_pager_of_a_terminal(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nsed 's/^/paged: /'\n")
    pager.chmod(0o755)
    environment = {"PAGER": f"{pager} -x", "LINES": "3"}
    paged = in_terminal(tmp_path, ["list"], 80, environment)
    assert sum(line.startswith("paged: ") for line in paged.splitlines()) >= 4  # names, and three models
    assert "paged: " not in in_terminal(tmp_path, ["list"], 80, {**environment, "LINES": "40"})
    plain = in_terminal(tmp_path, ["list"], 80, {"PAGER": "", "LINES": "3"})
    missing = in_terminal(tmp_path, ["list"], 80, {"PAGER": str(tmp_path / "none"), "LINES": "3"})
    assert "zoo:depth" in plain
    assert missing == plain


def test_the_pager_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.cli import pager

    for words, expected in (
        ("most -s", ["most", "-s"]),
        ("", []),
        ("cat", []),
        ("/bin/cat", []),
        ("'", []),
    ):
        monkeypatch.setenv("PAGER", words)
        assert pager.program() == expected
    monkeypatch.delenv("PAGER")
    monkeypatch.setenv("PATH", "")
    assert pager.program() == []
    assert not pager.is_long("\n" * 1000)  # in a pipe


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix only")
def test_a_progress_bar_in_a_terminal_and_none_with_quiet(tmp_path: Path) -> None:
    assert "4/4 images" in in_terminal(tmp_path, ["add", "zoo:depth"], 80, {})
    assert "images" not in in_terminal(tmp_path, ["add", "zoo:depth", "-q"], 80, {})


@pytest.mark.wide
@pytest.mark.skipif(sys.platform == "win32", reason="broken pipes are reported differently there")
def test_a_pipe_closed_before_a_table_is_written(tmp_path: Path) -> None:
    """A short table stays in Python's buffer until the end, so the error occurs after the command is done."""
    read, write = os.pipe()
    os.close(read)
    code = DRIVER.format(tests=str(Path(__file__).parents[1] / "support"), home=str(tmp_path))
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", code, "nearest", "depth"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        env=buffered,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_progress_bar_outside_a_terminal(line: Line) -> None:
    line("add", "zoo:depth")
    assert line.calls[0][2]["progress"] is None


def test_names_with_markup_in_a_ranking(line: Line) -> None:
    line.answer("nearest", Neighbours([neighbour(1, "[red]x", 0.5)], "[bold]t", "s"))
    output = line("nearest", "depth").stdout
    assert "[red]x" in output
    assert "[bold]t" in output


@pytest.mark.parametrize("name", ["cards", "figures", "formats", "options", "spelling", "sql"])
def test_the_examples_in_docstrings(name: str) -> None:
    import doctest
    from importlib import import_module

    outcome = doctest.testmod(import_module(f"modelspace.cli.{name}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_a_fresh_pass_is_printed_space_by_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = fake_line(monkeypatch, tmp_path)
    result = line("verify", "--reembed", "depth", "--batch-size", "7")
    name, arguments, options = line.calls[-1]
    assert (name, arguments) == ("reembed", ("depth",))
    assert options == {"weights": None, "device": "auto", "batch_size": 7, "progress": None}
    lines = [" ".join(row.split()) for row in result.stdout.splitlines()[1:]]
    assert lines == [
        "gradient_x_input the same bits largest difference 0.0e+00, mean 0.0e+00, of 2",
        "dds largest distance 2.5e-07, mean 1.0e-08 largest difference 1.5e-09, mean 5.0e-10, of 2",
        "transfer none stored no other model",
    ]
    assert result.stderr == (
        "note: its code changed since it was registered\n"
        "depth: the same bits in 1 of 2 spaces; affinities differ by at most 1.5e-09\n"
    )
    assert '"same_bits": true' in line("verify", "--reembed", "depth", "--format", "json").stdout
    assert line("verify", "--reembed", "depth", "--deep").exit_code == 2
    refused = line("verify", "--batch-size", "7")
    assert (refused.exit_code, refused.stderr.splitlines()[0]) == (
        2,
        "error: --batch-size is for the model of --reembed",
    )


def test_no_control_character_reaches_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import json
    import sys

    from modelspace.cli import formats

    odd = {"a": "\x1b[2J\x9b\u202e\U000e0041é", "b": "=1+1"}
    assert json.loads(formats.to_json(odd)) == odd
    assert formats.to_json(odd).replace("\n", "").isprintable()
    assert "é" in formats.to_json(odd)
    for is_terminal in (True, False):
        stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
        monkeypatch.setattr(stream, "isatty", lambda shown=is_terminal: shown, raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        formats.print_csv(list(odd), [list(odd.values())])
        text = stream.buffer.getvalue().decode()
        assert text.endswith(",=1+1\n")
        assert ("\x1b" in text) is not is_terminal
        assert ("\\x1b[2J" in text) is is_terminal


def test_without_rich_the_lines_are_richs() -> None:
    """Where nothing is truncated or folded, tables are drawn without rich, to the same lines."""
    shown = [
        Column("number", lambda row: row[0], right=True),
        Column(" ", lambda row: row[1]),
        Column("name", lambda row: row[2], fold=True, style="bold", least=4),
        Column("text", lambda row: row[3], rank=1, least=3),
    ]
    rows = [
        ["1", "", "a", "Zürich"],
        ["10", "≈", "漢字", "ａ ｂ"],
        ["-3.5", "~", "long name", ""],
        ["", "", "é", "👍 ok"],
    ]
    widths = [max(tables.cell_len(text) for text in texts) for texts in zip(*rows, strict=True)]
    widths = [max(width, len(column.header)) for width, column in zip(widths, shown, strict=True)]
    fitted = list(enumerate(widths))
    for some in (fitted, fitted[:2], fitted[2:], [fitted[1], fitted[0]]):
        for given in (rows, rows[:1], []):
            assert tables._table_without_rich(shown, given, some) == tables._table_of_rich(shown, given, some)


@pytest.mark.parametrize("lines", [[], [("a", "")], [("label", "text"), ("l", "漢字  "), ("longer label", "t")]])
def test_cards_without_rich_are_richs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, str]]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    tables.print_card("title", lines)
    plain = capsys.readouterr().out
    monkeypatch.setattr(tables, "_console_width", lambda: 1000)
    tables.print_card("title", lines)
    assert plain == "\n".join(line.rstrip() for line in capsys.readouterr().out.split("\n"))
