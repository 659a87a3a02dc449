"""Messages of the command line that name a command in plain text: how each is provoked, and what is typed for it.

`test_typed_hints.py` runs them. Those that the library's messages name are in `hint_cases`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hint_cases import ADDED, FLAGS, Step, known_weights, written
from message_texts import FILLED, PACKAGE, texts

#: Names that the examples use, and those in the folder of the test.
EXAMPLES = {"curvature": "make", "edge2d": "wide", "flowers": "seen", "resnet50": "make", "data/flowers/": "images"}


@dataclass(frozen=True)
class Typed:
    """A message of a command that names another command.

    Attributes:
        module: of `modelspace.cli`.
        text: a part of the message's source, by which it is found there.
        typed: the command line that prints it.
        home: the folder to begin with: of three models, "empty" or "bare".
        before: what is done first.
        values: what is typed for the words of the named command that stand for something.
        more: options that are added to it.
        mend: what is done before the named command, as the message's place says.
        patched: attributes of modules that have another value while it is printed.
        code: exit code of the command line that prints the message.
    """

    module: str
    text: str
    typed: str
    home: str = "home"
    before: tuple[Step, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    more: str = ""
    mend: tuple[Step, ...] = ()
    patched: dict[str, object] = field(default_factory=dict)
    code: int = 0


def fill_in() -> None:
    """Fill in what a written manifest leaves open."""
    file = Path("found.toml")
    file.write_text(re.sub(r"^# (\w+ = )", r"\1", file.read_text(), flags=re.MULTILINE))


URI = {"URI": "python:nets.py:make"}
MANIFEST = "add --manifest zoo.toml"
BLEND = "dds=0.5,gradient_x_input=0.5"
OUTCOME = "observe seen make 0.5"

CASES = (
    Typed("add", "modelspace nearest ", f"add python:nets.py:make {ADDED}", "empty"),
    Typed("add", "a registry with fewer images", f"add python:nets.py:make {ADDED} --images 4", "bare", code=2),
    Typed("add", "give an address", "add", code=2),
    Typed(
        "add",
        "were not changed",
        f"add python:nets.py:make --name make {FLAGS} --task other",
        values={"...": "licence=mit"},
    ),
    Typed("failures", "options come after the command", "--quiet list", values={"COMMAND": "list"}, code=2),
    Typed("init", "modelspace add URI", "init", "bare", values=URI, more=ADDED),
    Typed("init", "--space mixed --blend", "init --blend dds=1", values={BLEND: "dds=0.5,saliency=0.5"}, code=2),
    Typed("init", "modelspace fill ", "init --space coarse --method saliency --canvas 4 --probes yards --images 3"),
    Typed("list", "modelspace add URI", "list", "empty", values=URI, more=ADDED),
    Typed("many", "modelspace nearest NAME", MANIFEST, "empty", values={"NAME": "make"}),
    Typed("nearest", "modelspace nearest --task ", "nearest make --task seen", code=2),
    Typed("nearest", "modelspace try ", "nearest --task seen", before=(OUTCOME,)),
    Typed("nearest", "see 'modelspace nearest --help'", "nearest", code=2),
    Typed(
        "observe",
        " --from ",
        "observe seen make --from scores.csv",
        before=(written("scores.csv", "model,score\nmake,0.5\n"),),
        code=2,
    ),
    Typed("observe", "example: modelspace observe flowers", "observe", code=2),
    Typed("observe", "example: modelspace observe " + FILLED, "observe seen make", code=2),
    Typed("observe", "modelspace outcomes ", OUTCOME),
    Typed("outcomes", "modelspace observe TASK", "outcomes", values={"TASK": "seen", "MODEL": "make", "SCORE": "0.5"}),
    Typed("probes", "modelspace init --probes ", "probes create own images", more="--space own"),
    Typed("probes", "'modelspace probes list'", "probes show no-such", code=1),
    Typed("remove", "example: modelspace remove", "remove", more="--yes", code=2),
    Typed(
        "scan",
        "modelspace add --manifest ",
        "scan . --out found.toml",
        before=(known_weights,),
        mend=(fill_in,),
    ),
    Typed("sql", "example: modelspace sql", "sql", patched={"modelspace.cli.sql.is_terminal": lambda _: True}, code=2),
    Typed("suggest", "modelspace observe ", "suggest seen", before=(OUTCOME,), values={"SCORE": "0.5"}),
    Typed("tag", "example: modelspace tag", "tag", code=2),
    Typed("tag", "tags are of the form", "tag make", code=2),
    Typed("task", "modelspace observe ", "task add other --metric accuracy", values={"MODEL": "make", "SCORE": "0.5"}),
    Typed("task", "modelspace try ", "task add more images"),
    Typed("task", "modelspace task add flowers", "task list", "empty"),
    Typed("try", "modelspace show ", "try seen --budget 1"),
    Typed("verify", "'modelspace restore ", "verify --repair whole.duckdb"),
)

#: Texts that only look like one, or whose command is run elsewhere: module and a part of the text -> why.
OTHERS = {
    ("failures", "a part of modelspace can't be read"): "names the package, not a command",
    ("failures", "this is a bug in modelspace"): "an internal error; it is provoked, and doctor run, elsewhere",
    ("index", "to fix: modelspace index push"): "needs a store; spaces/test_milvus.py fills copies that disagree again",
    ("init", "or use them with"): "names a command, not what to type",
    ("layers", "'modelspace add' refuses it"): "says what add would do; its hint is the library's",
    ("signals", "modelspace signals"): "the name of a thread",
}


@cache
def named() -> set[tuple[str, str]]:
    """Module and text of each string in `modelspace/cli` that names a command, except help texts."""
    return {
        (path.stem, text)
        for path in sorted((PACKAGE / "cli").glob("*.py"))
        for text in texts(path.read_text("utf-8"), help_texts=False)
        if re.search(r"\bmodelspace (?:[a-z]+|COMMAND)", text)
    }


def of(module: str, part: str) -> list[str]:
    """The texts of a module of which something is a part."""
    return [text for stem, text in named() if stem == module and part in text]


def command(text: str, output: str) -> list[str]:
    """The words of the command in a printed message, without "modelspace"; none if the message was not printed.

    Args:
        text: of the message, as in the source.
        output: what was printed.
    """
    before, _, after = text.partition("modelspace ")
    quoted = before.endswith("'")
    start = re.escape(before).replace(FILLED, ".*?")
    end = "'" if quoted else "(?:;|$)"
    first = re.escape(after.split(" ", 1)[0].rstrip("';"))
    pattern = rf"{start}modelspace (?P<command>{first.replace(FILLED, '[^ ]*')}[^'\n;]*?){end}"
    match = re.search(pattern, output, re.MULTILINE)
    return shlex.split(match["command"]) if match else []
