"""Errors become two lines on standard error and an exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from cli_support import Line, fake_line, taken

from modelspace.errors import BusyError, ModelspaceError, UsageError


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    monkeypatch.delenv("MODELSPACE_DEBUG", raising=False)
    return fake_line(monkeypatch, tmp_path)


def test_message_hint_and_exit_code(line: Line) -> None:
    line.answer("add", taken("depth"))
    result = line("add", "zoo:depth")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: the name 'depth' belongs to a model with other weights\nhint: give it another name with --name\n"
    )


def test_a_long_message_loses_its_middle(line: Line) -> None:
    line.answer("list", ModelspaceError("there is no model " + "x" * 9_000 + "!", "one\n" + "y " * 700))
    first, second, third = line("list").stderr.splitlines()
    assert first.startswith("error: there is no model xxx")
    assert "x ... [7,719 characters] ... x" in first
    assert first.endswith("x!")
    assert (second, third) == ("hint: one", "y " * 700), "each line may have 1,500"


def test_no_hint_no_second_line(line: Line) -> None:
    line.answer("list", BusyError("another process is writing"))
    assert line("list").stderr == "error: another process is writing\n"


@pytest.mark.parametrize(("error", "code"), [(ModelspaceError("a"), 1), (UsageError("a"), 2)])
def test_the_exit_code_is_the_errors_own(line: Line, error: ModelspaceError, code: int) -> None:
    line.answer("list", error)
    assert line("list").exit_code == code


def test_quiet_does_not_silence_errors(line: Line) -> None:
    line.answer("list", ModelspaceError("broken", "fix it"))
    assert line("list", "-q").stderr == "error: broken\nhint: fix it\n"


def test_interruption(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.registry import connection

    monkeypatch.setattr(connection, "changes", connection.Changes())
    line.answer("add", KeyboardInterrupt())
    result = line("add", "zoo:depth")
    assert (result.exit_code, result.stderr) == (130, "interrupted; the registry is unchanged\n")


def test_an_internal_error(line: Line) -> None:
    line.answer("list", ZeroDivisionError("division by zero\nmore"))
    result = line("list")
    assert result.exit_code == 70
    assert result.stderr.startswith("error: unexpected ZeroDivisionError: division by zero\nhint: ")
    assert "MODELSPACE_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    with_traceback = line("list", env={"MODELSPACE_DEBUG": "1"})
    assert "Traceback (most recent call last)" in with_traceback.stderr
    assert with_traceback.exit_code == 70


@pytest.mark.parametrize("empty", [AssertionError(), KeyError("")])
def test_an_error_without_a_message(line: Line, empty: Exception) -> None:
    line.answer("list", empty)
    assert line("list").stderr.startswith(f"error: unexpected {type(empty).__name__}")


def test_an_operating_system_error_names_the_file(line: Line) -> None:
    line.answer("list", PermissionError(errno.EACCES, "Permission denied", "/somewhere/registry.duckdb"))
    result = line("list")
    assert (result.exit_code, result.stderr) == (1, "error: /somewhere/registry.duckdb: Permission denied\n")


def test_control_characters_in_messages(line: Line) -> None:
    line.answer("list", ModelspaceError("model '\x1b[2J'", "a\nb"))
    assert line("list").stderr == "error: model '\\x1b[2J'\nhint: a\nb\n"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["nearst"], "there is no command 'nearst'", "did you mean nearest?"),
        (["xyzzy"], "there is no command 'xyzzy'", "'modelspace --help' lists the commands"),
        (["nearest"], "missing argument 'NAME_OR_URI'", "see 'modelspace nearest --help'"),
        (["list", "--fromat", "csv"], "there is no option --fromat", "did you mean --format"),
        (["--home", "x", "list"], "there is no option --home", "options come after the command"),
        (["list", "--format", "xml"], "invalid value for '--format'", "see 'modelspace list --help'"),
        (["nearest", "depth", "-k", "five"], "invalid value for '-k'", "see 'modelspace nearest --help'"),
        (["show", "a", "b"], "unexpected extra argument", "see 'modelspace show --help'"),
        (["probes", "lst"], "no such command 'lst'", "see 'modelspace probes --help'"),
        (["add", "zoo:depth", "--value-range", "1"], "requires 2 arguments", "see 'modelspace --help'"),
        (["add", "zoo:depth", "--mean", "x"], "--mean x is not a comma-separated list of numbers", "example: --mean"),
        (["sql", "SELECT 1", "--max-rows", "-"], "invalid value for '--max-rows'", "see 'modelspace sql --help'"),
    ],
)
def test_arguments_that_can_not_be_parsed(line: Line, words: list[str], message: str, hint: str) -> None:
    result = line(*words)
    assert result.exit_code == 2
    first, second = result.stderr.rstrip("\n").split("\n")
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second
    assert line.calls == []


def test_no_arguments_print_the_help(line: Line) -> None:
    for words in ([], ["probes"]):
        result = line(*words)
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: modelspace")


def test_version(line: Line) -> None:
    import modelspace

    assert line("--version").stdout == f"modelspace {modelspace.__version__}\n"


def run(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "modelspace", *words], capture_output=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_a_real_process_separates_the_two_outputs(tmp_path: Path) -> None:
    done = run("nearest", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr == b"error: missing argument 'NAME_OR_URI'\nhint: see 'modelspace nearest --help'\n"


@pytest.mark.skipif(sys.platform == "win32", reason="broken pipes are reported differently there")
def test_a_closed_pipe_is_no_error() -> None:
    import os

    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "modelspace", "show", "--help"], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "modelspace", "show", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == b"error: No space left on device\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
        duckdb.OutOfMemoryException("Out of Memory Error: Failed to allocate block of 32768 bytes (bad allocation)"),
        RuntimeError("can't start new thread"),
        ImportError("_swigfaiss.abi3.so: failed to map segment from shared object"),
    ],
)
def test_used_up_memory_is_no_bug(line: Line, error: Exception) -> None:
    line.answer("list", error)
    result = line("list")
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first == "error: the memory of this machine, or what is allowed of it, is used up"
    assert "--batch-size 1" in second


def test_a_signal_before_anything_is_imported_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from modelspace import cli
    from modelspace.cli import signals
    from modelspace.registry import connection

    monkeypatch.setattr(connection, "changes", connection.Changes())

    def install() -> None:
        raise signals.Terminated

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(signals, "install", install)
    monkeypatch.setattr(signals, "leave", leave)
    with pytest.raises(SystemExit):
        cli.main(["list"])
    assert capsys.readouterr().err.endswith("; the registry is unchanged\n")


def test_a_module_that_cannot_be_read_is_no_bug(line: Line) -> None:
    name = "modelspace.registry.kept"
    line.answer("list", ModuleNotFoundError(f"No module named {name!r}", name=name))
    result = line("list")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: a part of modelspace can't be read: {name}\nhint: look at the permissions")
    line.answer("list", ModuleNotFoundError("No module named 'modelspaces'", name="modelspaces"))
    assert line("list").exit_code == 70


def test_an_interruption_while_options_are_parsed_is_said(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer versions of typer make a silent exit of it."""
    from modelspace.cli import signals
    from modelspace.cli.app import Program
    from modelspace.registry import connection

    def interrupted(*_: object, **options: object) -> None:
        raise signals.Terminated

    monkeypatch.setattr(connection, "changes", connection.Changes())
    monkeypatch.setattr(Program, "make_context", interrupted)
    monkeypatch.setattr(signals, "_received", [1])
    result = line("list")
    assert (result.exit_code, result.stderr) == (129, "the terminal was closed; the registry is unchanged\n")


def test_an_interruption_says_what_was_stored(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.registry import connection

    monkeypatch.setattr(connection, "changes", connection.Changes(1))
    line.answer("add", KeyboardInterrupt())
    assert line("add", "zoo:depth").stderr == "interrupted; what was finished until then is stored in the registry\n"
