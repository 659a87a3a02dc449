"""Conditions on the models: missing values are said, tags are named like columns, and wrong ones are explained."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import shelf
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConditionWarning, UsageError
from modelspace.registry import Registry

#: Name -> task and tags of the models.
MODELS: dict[str, tuple[str | None, dict[str, str]]] = {
    "a": ("flowers", {"group": "2D", "odd tag": "x"}),
    "b": ("depth", {"group": "3D", "task": "no column"}),
    "c": (None, {"group": "2D"}),
    "d": (None, {}),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("conditions")
    Registry.create(home / "registry.duckdb")
    with Registry.open(home / "registry.duckdb", write=True) as registry, registry.transaction():
        registry.add_probe_set(shelf.PROBES, None)
        registry.add_space(shelf.GI, default=True)
        for name, (task, tags) in MODELS.items():
            registry.add_model(shelf.card(name, task=task, tags=tags))
    return home


def selected(home: Path, where: str, write: bool = False) -> tuple[str, list[str]]:
    """The names of the models that meet a condition, and the warnings."""
    with (
        Registry.open(home / "registry.duckdb", write=write) as registry,
        warnings.catch_warnings(record=True) as shown,
    ):
        warnings.simplefilter("always")
        names = "".join(row.card.name for row in registry.models(where))
    assert {warning.category for warning in shown} <= {ConditionWarning}
    return names, [str(warning.message) for warning in shown]


@pytest.mark.parametrize("write", [False, True])
def test_models_for_which_a_condition_is_null_are_counted(home: Path, write: bool) -> None:
    names, notes = selected(home, "task <> 'flowers'", write)
    assert names == "b"
    assert notes == [
        "2 models have no value that this condition compares, and are left out; to keep what has no value, write "
        "`where=\"task IS DISTINCT FROM 'flowers'\"`"
    ]
    assert selected(home, "task IS DISTINCT FROM 'flowers'", write) == ("bcd", [])
    assert selected(home, "task IN ('flowers', 'depth') -- a comment", write) == (
        "ab",
        ["2 models have no value that this condition compares, and are left out; IS NULL would find them"],
    )


@pytest.mark.parametrize(
    ("where", "names", "left_out"),
    [
        ("task <> 'flowers' AND name <> 'd'", "b", 1),  # of d, the name already decides
        ("task LIKE 'f%'", "a", 2),  # a function, which runs in another process
        ("tags['group'] <> '2D'", "b", 1),
        ("NULL", "", 4),
        ("parameters > 1", "abcd", 0),
        ("name = 'd') OR (task <> 'flowers'", "bd", 0),  # closes our parenthesis: no count
    ],
)
def test_conditions_of_all_kinds_are_counted(home: Path, where: str, names: str, left_out: int) -> None:
    found, notes = selected(home, where)
    assert found == names
    assert [int(note.split()[0]) for note in notes] == ([left_out] if left_out else [])


@pytest.mark.first(5)
@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("group = '2D'", "ac"),  # a reserved word
        ("GROUP = '2D' AND models.name <> 'a'", "c"),
        ("models.group = '3D'", "b"),
        ("\"odd tag\" = 'x'", "a"),
        ("lower(group) = '2d'", "ac"),
        ("name IN (SELECT name FROM models GROUP BY name) AND group = '2D'", "ac"),
        ("task = 'depth'", "b"),  # the column, not the tag of that name
        ("group IN ('2D', 'group') AND task IS NULL", "c"),
    ],
)
def test_tags_are_named_like_columns(home: Path, where: str, names: str) -> None:
    assert selected(home, where)[0] == names
    assert selected(home, where, write=True)[0] == names


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("task=flowers", "a text is written in single quotes: `where=\"task='flowers'\"`"),
        ('task = "flowers"', "a text is written in single quotes: `where=\"task = 'flowers'\"`"),
        ("task=a-1 OR group IN (2D, 'x')", "for example: `where=\"task = 'depth'\"`"),  # 2D is no word at all
        ("task=a-1 OR name IN (b, c)", "`where=\"task='a-1' OR name IN ('b', 'c')\"`"),
        ("architecture LIKE Res.Net", "`where=\"architecture LIKE 'Res.Net'\"`"),
        ("taks = 'depth'", "did you mean task?"),
        ("grup = '2D'", "did you mean group?"),
        ("zzz > 1", "columns are name, task, "),
        ("zzz > 1", "tags are group, odd tag, task; "),
        ("task = = 1", "for example: `where=\"task = 'depth'\"`"),
    ],
)
def test_a_wrong_condition_says_what_to_write(home: Path, where: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        selected(home, where)
    assert caught.value.message.startswith(f"`where={where!r}`: ")
    assert hint in caught.value.hint
    if "single quotes: " in caught.value.hint:
        selected(home, eval(caught.value.hint.rpartition("`where=")[2][:-1]))  # what it says can be run


def test_a_tag_is_no_way_into_the_query(tmp_path: Path, home: Path) -> None:
    shutil.copy(home / "registry.duckdb", tmp_path)
    name = 'x\') AS x, 1 AS "y" FROM models; --\'"'
    with Registry.open(tmp_path / "registry.duckdb", write=True) as registry, registry.transaction():
        registry.add_model(shelf.card("e", task="t", tags={name: "1"}))
    quoted = '"' + name.replace('"', '""') + '"'
    assert selected(tmp_path, f"{quoted} = '1'")[0] == "e"


def test_the_command_line_prints_the_warning_as_a_note(home: Path) -> None:
    words = ["list", "--where", "task <> 'flowers'", "--format", "csv", "--home", str(home)]
    done = CliRunner().invoke(app, words)
    assert done.stderr == (
        "note: 2 models have no value that this condition compares, and are left out; to keep what has no value, "
        "write --where \"task IS DISTINCT FROM 'flowers'\"\n"
    )
    assert len(done.stdout.splitlines()) == 2
    assert CliRunner().invoke(app, [*words, "--quiet"]).stderr == ""
