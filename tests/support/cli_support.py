"""For the tests of the command line: a fake registry of a few records."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from modelspace.cli.app import app
from modelspace.errors import ConflictError, NotFoundError
from modelspace.home import REGISTRY, find_home, require_home
from modelspace.names import did_you_mean
from modelspace.results import (
    Added,
    BackupInfo,
    Check,
    Compared,
    Exported,
    Finding,
    IndexInfo,
    LabelScore,
    Merged,
    ModelInfo,
    Neighbour,
    Neighbours,
    Outcome,
    OutcomeInfo,
    ProbeInfo,
    Prospect,
    Prospects,
    PublishedInfo,
    Records,
    Reembedded,
    Reembedding,
    Restored,
    Scanned,
    SpaceInfo,
    TaskInfo,
    Trial,
    Trials,
)
from modelspace.types import ModelCard, Preprocessing
from modelspace.verbs.evaluate import evaluate
from modelspace.verbs.evaluate_search import evaluate_search
from modelspace.verbs.try_task import Search
from modelspace.workspace import ModelSpace, home_for_new

PREPROCESSING = Preprocessing((64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SHA = "0123456789abcdef" * 4


def model(name: str, **changes: Any) -> ModelInfo:
    known = ModelInfo(
        name=name,
        task="depth",
        data="rooms",
        architecture="SmallResNet",
        parameters=1_234_567,
        layer="fc:in",
        layer_found_by="input of the last linear map",
        output_shape=(8, 16, 16),
        uri=f"zoo:{name}",
        preprocessing=PREPROCESSING.to_dict(),
        weights_sha256=SHA,
        seconds=3.25,
        added_at="2026-01-02T03:04:05",
        spaces=("gradient_x_input",),
        tags={"licence": "mit"},
    )
    return replace(known, **changes)


def card(name: str, **changes: Any) -> ModelCard:
    known = ModelCard(
        name=name,
        uri=f"zoo:{name}",
        weights_sha256=SHA,
        layer="fc:in",
        layer_found_by="input of the last linear map",
        output_shape=(8, 16, 16),
        preprocessing=PREPROCESSING,
        parameters=1_234_567,
        architecture="SmallResNet",
        task="depth",
        data="rooms",
        tags={"licence": "mit"},
        seconds=3.25,
    )
    return replace(known, **changes)


def neighbour(rank: int, name: str, affinity: float, *, tied: bool = False, **changes: Any) -> Neighbour:
    known = Neighbour(
        rank=rank,
        name=name,
        affinity=affinity,
        low=affinity - 0.01,
        high=affinity + 0.01,
        distance=(2 - 2 * affinity) ** 0.5,
        tied_with_next=tied,
        task=f"task of {name}",
        data="rooms",
        architecture="SmallResNet",
        uri=f"zoo:{name}",
        score=affinity,
    )
    return replace(known, **changes)


def space_row(name: str = "gradient_x_input", **changes: Any) -> SpaceInfo:
    known = SpaceInfo(
        name=name,
        is_default=True,
        method="gradient_x_input",
        probes="rooms",
        n_images=200,
        canvas=64,
        bits=8,
        scalar="sum",
        parameters={},
        n_models=3,
        space_id="0123456789abcdef",
        index="fresh",
    )
    return replace(known, **changes)


@dataclass(frozen=True)
class Layer:
    """`modelspace.encoder.layers.LayerRow`, whose module imports torch."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    calls: int = 1
    refusal: str = ""
    input_refusal: str = ""
    candidates: tuple[tuple[str, str], ...] = ()


def survey(**changes: Any) -> SimpleNamespace:
    """`modelspace.encoder.layers.Survey` of a classifier."""
    chosen, other = "input of the last linear map", "the model's output"
    entries = {
        "rows": [
            Layer("conv", "Conv2d", (8, 32, 32), 216),
            Layer("fc", "Linear", (10,), 5130, candidates=(("fc:in", chosen),)),
            Layer("output", "Net", (10,), 5346, candidates=(("output", other),)),
        ],
        "tap": SimpleNamespace(layer="fc:in", found_by=chosen),
        "refusal": None,
        "candidates": (
            SimpleNamespace(layer="fc:in", reason=chosen),
            SimpleNamespace(layer="output", reason=other),
        ),
        "complete": True,
    }
    return SimpleNamespace(**{**entries, **changes})


#: Verbs that pass `**options` on, and the function whose parameters these are.
FORWARDED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("nearest", "layers", "survey", "gallery"), ModelSpace.add),
    "evaluate": evaluate,
    "try_task": Search,
}


def bind(verb: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Fails like the real method if it does not accept these arguments."""
    method = getattr(ModelSpace, verb)
    try:
        bound = inspect.signature(method).bind(None, *args, **options)
        inspect.signature(FORWARDED.get(verb, method)).bind_partial(**bound.arguments.get("options", {}))
    except TypeError as error:
        raise TypeError(f"ModelSpace.{verb}(): {error}") from None


def task_row() -> TaskInfo:
    time = "2026-11-27T10:00:00+00:00"
    return TaskInfo("flowers", "classification", "accuracy", True, 120, ("a", "b"), "data", "ab" * 32, 0, time, 4)


def outcome(model: str, score: float | None, note: str = "") -> OutcomeInfo:
    time = "2026-11-27T10:00:00+00:00"
    return OutcomeInfo(
        "flowers", model, score, "accuracy", "observed", None, None, None, time, note, {}, True, "cd" * 32
    )


def prospect(rank: int, name: str, score: float | None = None, basis: str = "outcomes") -> Prospect:
    low, high = (None, None) if score is None else (score - 0.1, score + 0.1)
    return Prospect(rank, name, score, low, high, basis, "known so", (), "depth", "net", 7, f"zoo:{name}")


def trials() -> Trials:
    records = [
        Trial(1, "depth", "finalist", 480, 0.99, 0.975, 0.95, 0.99, False, 1.5, ""),
        Trial(2, "normals", "finalist", 480, 0.98, 0.97, 0.94, 0.99, True, 1.5, ""),
        Trial(3, "edges", "dropped", 60, 0.61, None, None, None, False, 0.5, "surely worse than the leader"),
        Trial(4, "floor", "failed", 0, None, None, None, None, False, 0.5, "out of memory"),
    ]
    return Trials(records, "flowers", "accuracy", "ridge", 1200, 120, ["start from depth; normals can't be told apart"])


class FakeSpace:
    """The verbs of `modelspace.workspace.ModelSpace`. `calls` records the calls, `answers` has what to return or raise.

    A call must fit the signature of the real method.
    """

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]
    answers: dict[str, Any]

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)

    @classmethod
    def open(cls, home: str | Path | None = None) -> FakeSpace:
        cls.calls.append(("open", (home,), {}))
        return cls(require_home(home))

    @classmethod
    def create(cls, home: str | Path | None = None) -> FakeSpace:
        cls.calls.append(("create", (home,), {}))
        return cls(find_home(home) or Path.cwd())

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb not in self.answers:
            raise AttributeError(verb)

        def call(*args: Any, **options: Any) -> Any:
            bind(verb, args, options)
            self.calls.append((verb, args, options))
            answer = self.answers[verb]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **options) if callable(answer) else answer

        return call


class Drawing:
    """Results of the verbs that draw: a picture, a page, a report, and the tree of a picture."""

    facts: Mapping[str, Any] = {
        "models": ["depth"],
        "images": [0],
        "notes": (),
        "range": (0.0, 0.5),
        "recall": SimpleNamespace(mean=0.5, k=2, chance=0.4),
        "layout": SimpleNamespace(
            origin="stored", n_new=0, stored=True, projection=SimpleNamespace(seed=0), n_fitted=3
        ),
    }
    notes: tuple[str, ...] = ()
    selection = SimpleNamespace(total=None)
    n_models = 3
    sections = (SimpleNamespace(heading="Counts"),)
    tree = SimpleNamespace(n_leaves=3, method="average", support=None)

    def save(self, path: Path) -> list[Path]:
        return [path]

    def draw(self, title: str) -> Drawing:
        return self

    heatmap = draw

    def pairs(self) -> list[dict[str, Any]]:
        return [{"a": "depth", "b": "normals", "affinity": 0.5}]


def answers() -> dict[str, Any]:
    models = Records([model("depth"), model("normals", task="normals"), model("edges", task=None)], ModelInfo)

    def show(name: str) -> ModelInfo:
        for row in models:
            if row.name == name:
                return row
        raise NotFoundError(f"there is no model {name!r}", did_you_mean(name, [row.name for row in models]))

    def judged(**_: Any) -> Any:
        from modelspace import evaluation

        names = evaluation.load("taskonomy").sources
        return evaluate(None, oracle="taskonomy", matrices={"gradient_x_input": (names, np.eye(len(names)))})

    def searched(*_: Any, **__: Any) -> Any:
        return evaluate_search(None, oracles=["tll-cnn"])

    return {
        "init": Records([space_row()], SpaceInfo),
        "add": lambda uri, **_: Added("depth", "added", ("gradient_x_input",), card("depth"), ()),
        "nearest": Neighbours(
            [
                neighbour(1, "normals", 0.41234567890123, tied=True),
                neighbour(2, "edges", 0.4),
                neighbour(3, "floor", 0.1),
            ],
            "depth",
            "gradient_x_input",
        ),
        "compare": Records(
            [
                Compared("saliency", 0.5, 0.4, 0.6, "affinity", 0.5, 0.5, 1.0, ("depth",), ("edges", "floor"), 4),
                Compared("transfer", 0.7, 0.6, 0.8, "directed", 0.3, 0.2, 0.9, ("depth",), ("edges",), 4),
                Compared("huge", 0.1, 0.0, 0.2, "directed", None, None, None, (), (), 9000),
            ],
            Compared,
        ),
        "evaluate": judged,
        "evaluate_search": searched,
        "list": models,
        "resume": Records([Outcome(1, "depth", "added", "zoo:depth", ("gradient_x_input",), 3.25)], Outcome),
        "waiting": (),
        "show": show,
        "remove": None,
        "remove_all": lambda names=(), **_: tuple(names),
        "tag_all": lambda tags, names=(), **_: tuple(names) or ("depth", "edges"),
        "remove_space": lambda names: (names,) if isinstance(names, str) else tuple(names),
        "rename_space": None,
        "rename": None,
        "tag": lambda name, *_, **__: model(name),
        "set_default": None,
        "add_task": (task_row(), ["the smallest class has 3 images, so scores are uncertain"]),
        "tasks": Records([task_row()], TaskInfo),
        "task": task_row(),
        "remove_task": 4,
        "rename_task": None,
        "prospects": Prospects(
            [prospect(1, "depth", 0.875), prospect(2, "edges")], "flowers", "accuracy", ["ranked by outcomes"]
        ),
        "suggest": Prospects([prospect(1, "edges")], "flowers", "accuracy", ["no outcome of any task is registered"]),
        "try_task": trials(),
        "label_scores": Records(
            [
                LabelScore("depth", "ridge", 0.25, 120, 0.004, 1.5),
                LabelScore("depth", "leep", None, 120, 0.0, 1.5, "the model has no class outputs"),
                LabelScore("edges", "ridge", 0.5, 120, 0.006, 1.5),
                LabelScore("edges", "leep", -1.25, 120, 0.001, 1.5),
                LabelScore("floor", "ridge", None, 120, 0.0, 0.0, "out of memory"),
                LabelScore("floor", "leep", None, 120, 0.0, 0.0, "out of memory"),
            ],
            LabelScore,
        ),
        "observe": outcome("depth", 0.875),
        "observe_file": Records([outcome("depth", 0.9), outcome("normals", 0.8)], OutcomeInfo),
        "outcomes": Records([outcome("depth", 0.9), outcome("normals", None, note="out of memory")], OutcomeInfo),
        "import_published": (
            Records([PublishedInfo("sfda-cnn", 11, {"resnet50": "depth"}, 11, 0, {}, "a repository")], PublishedInfo),
            ("resnet34 could be a or b",),
        ),
        "spaces": Records([space_row(), space_row("saliency", is_default=False, method="saliency")], SpaceInfo),
        "probe_sets": Records(
            [ProbeInfo("rooms", "rooms", None, 256, "ab" * 8, {"kind": "rooms", "seed": 0})], ProbeInfo
        ),
        "create_probes": lambda name, *_, **__: ProbeInfo(name, "folder", 30, 256, "cd" * 8, {"kind": "folder"}),
        "survey": survey(),
        "scan": Records(
            [
                Scanned(
                    "a.safetensors", "a", "incomplete", "timm:resnet18", missing=("mean", "std"), hint="fill it in"
                ),
                Scanned("b.bin", "b", "unknown", message="its 3 tensors are those of no architecture"),
            ],
            Scanned,
        ),
        "sql": SimpleNamespace(columns=["name", "n"], rows=[("depth", 1), ("normals", 2)]),
        "add_all": Records(
            [
                Outcome(1, "depth", "added", "zoo:depth", ("gradient_x_input",), 3.25),
                Outcome(2, "edges", "needs", message="a checkpoint"),
            ],
            Outcome,
        ),
        "fill": Records([Outcome(1, "depth", "completed", "zoo:depth", ("dds",), 1.5)], Outcome),
        "export": Records([Exported("models.csv", "models", "csv", 3, 1234)], Exported),
        "merge": Records([Merged("depth", "depth", "added", ("gradient_x_input",))], Merged),
        "reembed": lambda name, **_: Reembedding(
            [
                Reembedded("gradient_x_input", True, 0.0, 0.0, 2, 0.0, 0.0),
                Reembedded("dds", False, 2.5e-7, 1e-8, 2, 1.5e-9, 5e-10),
                Reembedded("transfer", None, None, None, 0, 0.0, 0.0),
            ],
            name,
            ["its code changed since it was registered"],
        ),
        "verify": Records([Check("tables", True, "3 models, 1 spaces")], Check),
        "doctor": Records(
            [
                Finding("versions", "torch", "2.13.0"),
                Finding("optional", "ray", "not installed", hint="pip install ray"),
            ],
            Finding,
        ),
        "repair": Records([Check("models", True, "3 of 3 kept")], Check),
        "rebuild": Records([space_row()], SpaceInfo),
        "push_index": Records([IndexInfo("dds", "fresh", "", 3, 3, 3, 1, 1.0)], IndexInfo),
        "index_status": Records([IndexInfo("dds", "fresh", "", 3, 3, 0, 1, 1.0)], IndexInfo),
        "drop_index": ("dds",),
        "backup": BackupInfo("copy.duckdb", "2026-01-01T12:00:00+00:00", 3, 5_000_000),
        "backups": Records([BackupInfo("copy.duckdb", "2026-01-01T12:00:00+00:00", 3, 5_000_000)], BackupInfo),
        "serve": lambda **options: options["on_ready"]("http://127.0.0.1:8265"),
        "restore": Restored("copy.duckdb", "registry.duckdb.replaced", 3),
        **{verb: lambda *_, **__: Drawing() for verb in ("map", "clusters", "gallery", "atlas", "report")},
    }


@dataclass
class Line:
    """The command line over a fake registry."""

    fake: type[FakeSpace]
    home: Path

    def __call__(self, *words: str, input: str | None = None, env: dict[str, str] | None = None) -> Any:
        return CliRunner().invoke(app, list(words), input=input, env={"COLUMNS": "80", **(env or {})})

    @property
    def calls(self) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        return [call for call in self.fake.calls if call[0] not in ("open", "create", "waiting")]

    def answer(self, verb: str, value: Any) -> None:
        self.fake.answers[verb] = value


def fake_line(monkeypatch: pytest.MonkeyPatch, home: Path, *, registry: bool = True) -> Line:
    """A command line with fake verbs, in the folder `home`, with or without a registry."""

    class Fake(FakeSpace):
        pass

    Fake.calls, Fake.answers = [], answers()
    module = ModuleType("modelspace.workspace")
    module.ModelSpace = Fake  # type: ignore[attr-defined]
    module.home_for_new = home_for_new  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelspace.workspace", module)
    monkeypatch.delenv("MODELSPACE_HOME", raising=False)
    monkeypatch.chdir(home)
    if registry:
        (home / REGISTRY).touch()
    return Line(Fake, home)


def taken(name: str) -> ConflictError:
    return ConflictError(
        f"the name {name!r} belongs to a model with other weights", "give it another name with `name=`"
    )
