"""A user's script is run, watched, ended, and read."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.tasks import data, script
from modelspace.tasks.script import PLACEHOLDERS, arguments, run_script, write_split
from modelspace.tasks.splits import split

PYTHON = shlex.quote(sys.executable)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    """The command that runs a script with this text, in a folder with a space in its name."""

    def write(text: str) -> str:
        file = tmp_path / "my scripts" / "tune.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
        return f"{PYTHON} {shlex.quote(str(file))}"

    return write


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


# --- arguments


def test_values_with_spaces_quotes_and_braces_stay_one_argument() -> None:
    values = {"uri": "python:my net.py:build", "name": 'a\'b "c" {data} $HOME; x', "seed": "3"}
    command = "python t.py --model {uri} 'run {name}.log' --seed={seed} {{name}} '{\"lr\": 1}' {}"
    assert arguments(command, values) == [
        "python",
        "t.py",
        "--model",
        "python:my net.py:build",
        'run a\'b "c" {data} $HOME; x.log',
        "--seed=3",
        "{name}",
        '{"lr": 1}',
        "{}",
    ]


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("python {modle}", "there is no placeholder {modle}; there are {uri}, {name}", "example: python"),
        ("python {nam}", "there is no placeholder {nam}; there are {uri}, {name}", "did you mean name?"),
        ("python {weights}", "{weights} has no value for this model and task", "use {uri}, {name}"),
        ("python 'x", "the command can't be split into arguments: No closing quotation", "the command is: python 'x"),
        ("  ", "the command is empty", "example: python"),
    ],
)
def test_a_wrong_command_is_refused_before_it_runs(command: str, message: str, hint: str) -> None:
    for call in (arguments, run_script):
        with pytest.raises(UsageError) as caught:
            call(command, {"uri": "timm:resnet18", "name": "net"})
        assert caught.value.message == message
        assert caught.value.hint.startswith(hint)


def test_every_placeholder_is_filled_in(written: Callable[[str], str]) -> None:
    command = written("import sys\nprint(*sys.argv[1:], sep='\\n')\nprint(0.5)")
    values = {name: f"the {name}" for name in PLACEHOLDERS}
    lines: list[str] = []
    run_script(command + "".join(f" {{{name}}}" for name in values), values, on_line=lines.append)
    assert lines == [*values.values(), "0.5"]


def test_no_shell_runs(written: Callable[[str], str], tmp_path: Path) -> None:
    command = written("import sys\nprint(len(sys.argv))")
    assert run_script(f"{command} $HOME > {tmp_path}/out ; ls | wc", {}).score == 8
    assert not (tmp_path / "out").exists()


# --- the score


@pytest.mark.parametrize(
    ("line", "score"), [("0.912", 0.912), ("  -3 ", -3.0), ("1e-3\n\n  \n", 0.001), ("loading\n7", 7.0)]
)
def test_the_last_line_is_the_score(written: Callable[[str], str], line: str, score: float) -> None:
    result = run_script(written(f"print({line!r})"), {})
    assert result.score == score
    assert result.last_lines[-1].strip() == line.strip().splitlines()[-1]
    assert 0 < result.seconds < 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "printed nothing"),
        ("print('accuracy 0.912')", "the last line of .* is not a number: accuracy 0.912"),
        ("print('91.2%')", "is not a number: 91.2%"),
        ("print(0.9)\nprint('done')", "is not a number: done"),
        ("print('x' * 1000)", "is not a number: x{297}[.]{3}$"),
        ("print('nan')", "the score that .* printed is nan"),
        ("print('-inf')", "the score that .* printed is -inf"),
    ],
)
def test_other_last_lines_are_refused(written: Callable[[str], str], text: str, message: str) -> None:
    with pytest.raises(ModelspaceError) as caught:
        run_script(written(text), {})
    assert re.search(message, caught.value.message)
    assert caught.value.hint


def test_numbers_on_the_error_stream_are_no_score(written: Callable[[str], str]) -> None:
    with pytest.raises(ModelspaceError, match="printed nothing"):
        run_script(written("import sys\nprint(0.9, file=sys.stderr)"), {})


# --- failures


def test_a_failure_shows_the_last_errors(written: Callable[[str], str]) -> None:
    command = written("import sys\nfor k in range(30): print('step', k, file=sys.stderr)\nprint(0.9)\nsys.exit(3)")
    with pytest.raises(ModelspaceError) as caught:
        run_script(command, {})
    assert "failed with exit code 3:\n    step 20\n" in caught.value.message
    assert caught.value.message.endswith("    step 29")
    assert caught.value.hint == f"the call: {command}"


def test_without_errors_the_last_output_is_shown(written: Callable[[str], str]) -> None:
    with pytest.raises(ModelspaceError, match="failed with exit code 1:\n    no licence"):
        run_script(written("print('no licence')\nraise SystemExit(1)"), {})


def test_a_signal_is_named(written: Callable[[str], str]) -> None:
    with pytest.raises(ModelspaceError, match="was ended by SIGKILL"):
        run_script(written("import os\nos.kill(os.getpid(), 9)"), {})


def test_a_missing_program_and_one_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no program no-such-program"):
        run_script("no-such-program {name}", {"name": "x"})
    (tmp_path / "text").write_text("hello", "utf-8")
    with pytest.raises(UsageError, match="can't be run: Permission denied"):
        run_script(str(tmp_path / "text"), {})


def test_bytes_that_are_no_text_are_replaced(written: Callable[[str], str]) -> None:
    lines: list[str] = []
    run_script(written("import os\nos.write(1, b'\\xff\\xfe caf\\xc3\\xa9\\n1\\n')"), {}, on_line=lines.append)
    assert lines == ["\ufffd\ufffd café", "1"]


# --- while it runs


def test_lines_come_as_they_are_printed(written: Callable[[str], str]) -> None:
    seen: list[tuple[str, float]] = []
    command = written(
        "import sys, time\nprint('one')\ntime.sleep(1)\nprint('two', file=sys.stderr)\ntime.sleep(1)\nprint(3)"
    )
    run_script(command, {}, on_line=lambda line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["one", "two", "3"]
    assert seen[1][1] - seen[0][1] > 0.5
    assert seen[2][1] - seen[1][1] > 0.5


def test_much_output_is_passed_on_in_full_and_the_end_is_kept(written: Callable[[str], str]) -> None:
    lines: list[str] = []
    result = run_script(written("for k in range(20000): print(k)"), {}, on_line=lines.append)
    assert lines == [str(k) for k in range(20000)]
    assert result.last_lines == tuple(str(k) for k in range(19990, 20000))


CHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
    "print(child.pid, flush=True)\n"
)


def test_a_time_out_ends_the_script_and_its_children(written: Callable[[str], str]) -> None:
    lines: list[str] = []
    start = time.monotonic()
    with pytest.raises(ModelspaceError, match=r"ran longer than 4 seconds:\n    [0-9]+\n"):
        run_script(written(CHILD + "time.sleep(100)"), {}, timeout=4, on_line=lines.append)
    assert time.monotonic() - start < 30
    assert soon(lambda: not alive(int(lines[0])))


def test_a_script_that_ignores_the_signal_is_killed(
    written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "GRACE", 0.5)
    text = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(os.getpid())\ntime.sleep(100)"
    lines: list[str] = []
    with pytest.raises(ModelspaceError, match="ran longer"):
        run_script(written(text), {}, timeout=4, on_line=lines.append)
    assert soon(lambda: not alive(int(lines[0])))


def test_children_in_the_background_do_not_hold_up_the_result(written: Callable[[str], str]) -> None:
    start = time.monotonic()
    result = run_script(written(CHILD + "print(0.5)"), {})
    assert result.score == 0.5
    assert time.monotonic() - start < 30
    assert soon(lambda: not alive(int(result.last_lines[0])))


def test_an_interrupt_ends_the_script_and_is_raised_again(written: Callable[[str], str]) -> None:
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_script(written(CHILD + "time.sleep(100)"), {}, on_line=interrupt)
    assert soon(lambda: not alive(int(lines[0])))


# --- the tables of a split


def images_in(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("a, b", "Müller"):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{k}.png")
    return folder


def test_the_tables_are_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images_in(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    images = data.read("data")  # relative, and the tables' paths are absolute
    parts = split(images, seed=1)
    (tmp_path / "out").mkdir()
    paths = write_split(images, parts, Path("out"))
    assert list(paths) == ["train", "test"]
    for part, numbers in (("train", parts.train), ("test", parts.test)):
        with Path(paths[part]).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [Path(row["path"]) for row in rows] == [images.files[number].absolute() for number in numbers]
        assert [row["label"] for row in rows] == [images.classes[int(images.labels[number])] for number in numbers]
    monkeypatch.chdir(tmp_path / "out")
    again = data.read(paths["train"])
    assert again.classes == images.classes
    assert set(again.hashes) == {images.hashes[number] for number in parts.train}


def test_numbers_are_written_exactly(tmp_path: Path) -> None:
    images_in(tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    values = np.random.default_rng(0).random(len(files))
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f'"{f}",{v!r}\n' for f, v in zip(files, values.tolist(), strict=True)))
    images = data.read(table)
    paths = write_split(images, split(images, seed=0), tmp_path)
    labels = {*data.read(paths["train"]).labels, *data.read(paths["test"]).labels}
    assert labels == set(values.tolist())
