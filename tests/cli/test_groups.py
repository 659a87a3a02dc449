"""A group is one parameter of a command's function, and several options on the command line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Annotated, Any

import pytest
import typer
from cli_support import Line, fake_line
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.cli.commands import COMMANDS, SETTINGS, load
from modelspace.cli.groups import Group, InputOptions, Loading, grouped
from modelspace.cli.spelling import flag
from modelspace.errors import UsageError
from modelspace.sources import PreprocessingFlags
from modelspace.sources.fields import FIELDS
from modelspace.types import Preprocessing


@dataclass(frozen=True)
class Size(Group):
    height: Annotated[int, typer.Option("--height", help="Pixels.")]
    width: Annotated[int, typer.Option("--width", help="Pixels.")] = 7


@dataclass(frozen=True)
class Page(Group):
    size: Size
    title: Annotated[str | None, typer.Option("--title", help="Above it.")] = None


def run(words: list[str]) -> tuple[Any, list[Any]]:
    """The result of a command with two groups, and the arguments that its function got."""
    arguments: list[Any] = []

    @grouped
    def command(
        name: Annotated[str, typer.Argument(help="Its name.")],
        *,
        page: Page,
        quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False,
    ) -> None:
        """Draw a page."""
        arguments.extend([name, page, quiet])

    program = typer.Typer(add_completion=False)
    program.command()(command)
    return CliRunner().invoke(program, words), arguments


def test_a_group_is_created_from_its_options() -> None:
    result, arguments = run(["a", "--height", "3", "--title", "t"])
    assert result.exit_code == 0, result.output
    assert arguments == ["a", Page(Size(3, 7), "t"), False]


def test_a_missing_required_option_of_a_group_is_reported() -> None:
    result, arguments = run(["a", "--width", "3"])
    assert result.exit_code == 2
    assert "--height" in result.output
    assert arguments == []


def test_the_options_of_a_group_are_at_the_position_of_the_group() -> None:
    result, _ = run(["--help"])
    places = [result.output.index(word) for word in ("--height", "--width", "--title", "--quiet")]
    assert places == sorted(places)


@pytest.mark.parametrize(("name", "most"), [("add", 18), ("nearest", 14), ("layers", 7), ("gallery", 15)])
def test_commands_take_few_parameters(name: str, most: int) -> None:
    command = import_module(f"modelspace.cli.{name}").command
    assert len(inspect.signature(command.__wrapped__).parameters) <= most
    # The command line still has all the options.
    assert len(load(name).params) > most


# ---- the table of preprocessing options


def test_the_table_has_every_field_but_the_additional_inputs() -> None:
    names = [*FIELDS, "inputs"]
    assert [entry.name for entry in fields(PreprocessingFlags)] == names
    assert {entry.name for entry in fields(Preprocessing)} == set(names)


@pytest.mark.parametrize("command", ["add", "nearest", "layers", "gallery"])
def test_every_field_is_an_option_with_the_help_of_the_table(command: str) -> None:
    params = {param.name: param for param in load(command).params}
    for row in FIELDS.values():
        param = params[row.name]
        assert (param.opts, param.metavar, param.help) == ([flag(row.name)], row.metavar, row.help)
        assert param.nargs == len(row.metavar.split())


@pytest.mark.parametrize("name", FIELDS)
def test_the_examples_of_the_table_can_be_parsed(name: str) -> None:
    row = FIELDS[name]
    for example in row.examples:
        text = ",".join(row.form.write(example))
        assert row.read(text) == row.form.convert(example)
        assert PreprocessingFlags.parse(**{name: text}) == PreprocessingFlags.from_dict({name: example})
        values = load("layers").make_context("layers", ["a", flag(name), *row.form.write(example)]).params
        assert InputOptions.taken_from(values).flags() == PreprocessingFlags.from_dict({name: example})


def test_the_example_in_a_docstring() -> None:
    import doctest

    from modelspace.sources import fields as table

    outcome = doctest.testmod(table)
    assert (outcome.failed, outcome.attempted) == (0, 1)


def test_a_text_for_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="size"):
        PreprocessingFlags.parse(size="3")
    with pytest.raises(UsageError, match="`alpha='x'` is not a number"):
        PreprocessingFlags.parse(alpha="x")


def test_the_texts_of_options_are_available_before_they_are_parsed() -> None:
    loading = Loading.taken_from(
        load("nearest").make_context("nearest", ["zoo:a", "--layer", "fc", "--value-range", "-1", "1"]).params
    )
    assert loading.as_typed() == {"layer": "fc", "value_range": "-1,1"}
    assert loading.arguments() == {"layer": "fc", "preprocessing": PreprocessingFlags(value_range=(-1.0, 1.0))}


# ---- help


LEAVES = [(name,) for name in COMMANDS] + [("probes", name) for name in load("probes").commands] + [()]


@pytest.mark.first(16)
@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_the_short_flag_for_help_works_everywhere(words: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(app, [*words, word]) for word in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "-h, --help" in short.stdout


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Line:
    return fake_line(monkeypatch, tmp_path)


@pytest.mark.parametrize("command", ["map", "heatmap", "atlas", "report", "tree", "gallery"])
def test_the_pictures_share_their_selection(line: Line, command: str) -> None:
    result = line(command, "--space", "s", "--where", "true", "--group-by", "task")
    assert result.exit_code == 0, result.output
    ((_, _, arguments),) = line.calls
    assert {key: arguments[key] for key in ("space", "where", "group_by")} == {
        "space": "s",
        "where": "true",
        "group_by": "task",
    }


def test_all_commands_have_the_same_settings() -> None:
    for name in COMMANDS:
        assert load(name).context_settings["help_option_names"] == SETTINGS["help_option_names"]
