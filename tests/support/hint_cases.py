"""Errors and notes whose messages name a command: how each is provoked, and what is typed for it.

`test_hints.py` runs them: the error, the commands of its hint, and the refused command line again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import torchvision_ops
from safetensors.torch import save_file

from modelspace.analysis import distances, projection
from modelspace.embedding.prepare import Request
from modelspace.registry import Registry, backups, outcomes, sandbox
from modelspace.registry.connection import translated
from modelspace.registry.copies import Sums, vector_of
from modelspace.sources.base import PreprocessingFlags
from modelspace.spaces import anchors, index, milvus_parts
from modelspace.spaces.coordinates import Factor
from modelspace.spaces.kinds import space_of
from modelspace.types import SpaceSpec
from modelspace.verbs import add, pending
from modelspace.workspace import ModelSpace

#: The networks of the models "make", "wide" and "deep".
NETS = """
import torch
from torch import nn

def net(seed, width):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 3)
    )

def make():
    return net(0, 4)

def wide():
    return net(1, 8)

def deep():
    return net(2, 6)
"""
STATED = {"input_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
FLAGS = "--input-size 16 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
ZOO = """
[[model]]
uri = "python:nets.py:make"
name = "make"
input_size = 16
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
task = "other"
"""
ORACLE = "target,source,score\n" + "\n".join(
    f"{a},{b},0.{i}" for i, (a, b) in enumerate(itertools.permutations(("make", "wide", "deep"), 2), 1)
)
PUBLISHED = "published.sfda-cnn.aircraft"


#: A step of a preparation: a command line that must succeed, or a function that changes files in the current folder.
Step = str | Callable[[], object]


@dataclass(frozen=True)
class Case:
    """An error whose message names a command.

    Attributes:
        module: the module that holds the message.
        text: a part of it, by which it is found in the module.
        refused: the command line, or the function of the library, whose error or note is the message.
        home: the folder to begin with (`places`).
        before: what is done first.
        values: what is typed for the words of the hint that stand for something.
        more: options that are added to the hint's commands.
        mend: what the hint says to do before its command.
        again: whether the refused command line succeeds afterwards, without the message.
        code: exit code of the hint's commands; 1 for `verify` of a registry that is damaged.
        patched: attributes of modules that have another value while the error is provoked.
    """

    module: str
    text: str
    refused: str | Callable[[], object]
    home: str = "home"
    before: tuple[Step, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    more: str = ""
    mend: tuple[Step, ...] = ()
    again: bool = False
    code: int = 0
    patched: dict[str, object] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the hint's commands changes the folder."""
        return not (self.before or self.mend or self.again)


def stored(statement: str) -> Callable[[], None]:
    """Changes rows of the registry behind its back."""

    def change() -> None:
        with duckdb.connect("registry.duckdb") as connection:
            connection.execute(statement)

    return change


def written(file: str, text: str | bytes) -> Callable[[], None]:
    """Writes a file."""

    def write() -> None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(text.encode() if isinstance(text, str) else text)

    return write


def opened() -> ModelSpace:
    return ModelSpace.open(".")


ADDED = f"--name new {FLAGS}"
MAKE = {"URI": "python:nets.py:make"}
TASK = "task add seen images"
NO_SPACE: dict[str, Any] = {"home": "bare", "more": "--method dds --images 3"}
DAMAGED: dict[str, Any] = {"code": 1}


def case(module: str, text: str, refused: str | Callable[[], object], *before: Step, **more: Any) -> Case:
    return Case(module, text, refused, before=before, **more)


# ---- what cases prepare


def raise_(error: Exception) -> None:
    raise error


def forget_backups() -> None:
    """Remove the list of backups, as in a copy of the registry elsewhere."""
    Path(backups.LIST).unlink()


def older() -> None:
    """Put an older copy of the registry next to its index."""
    stored("UPDATE spaces SET generation = generation - 1")()


def wait() -> None:
    """A finished pass that waits to be stored."""
    request = Request("python:nets.py:make", "new", preprocessing=PreprocessingFlags(**STATED))
    path = Path("registry.duckdb")
    pending.keep(path, add.compute(path, request, batch_size=None, replacing=False, progress=None), replacing=False)


def full_disk(*_: object) -> int:
    raise OSError(28, "No space left on device")


def another() -> None:
    """A copy of the registry in the folder "other"."""
    Path("other").mkdir()
    shutil.copy("registry.duckdb", "other")


def in_other(step: Callable[[], object]) -> Callable[[], None]:
    """The step, in the folder "other"."""

    def run() -> None:
        with contextlib.chdir("other"):
            step()

    return run


def a_vector() -> None:
    """Read one model's vector."""
    with Registry.open(Path("registry.duckdb")) as registry:
        vector_of(registry, registry.space().spec.space_id, 1)


def unreadable() -> None:
    """Copy a vector that is not finite to a store."""
    vectors = np.zeros(1, int), np.zeros(1, int), np.full((1, 2), np.nan)
    registry: Any = SimpleNamespace(vectors_after=lambda *_: vectors)
    nothing: Any = None
    models = Sums(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))
    milvus_parts.fill(nothing, milvus_parts.Source(registry, "0", "dds", 1, models), [])


def contradiction() -> None:
    """Append three models, the third near to the first and opposite to the second, which are near to each other."""
    factor = Factor()
    for affinities in ([], [0.9], [0.9, -0.9]):
        factor.append(np.array(affinities))


def not_in_member() -> None:
    """Ask for the coordinates in a space of a model that is not in it."""
    with Registry.open(Path("registry.duckdb")) as registry:
        anchors.rows_of(registry, registry.space("dds").spec.space_id, [99])


def reseeded() -> None:
    """Give the network "deep" other weights."""
    nets = Path("nets.py")
    nets.write_text(nets.read_text().replace("net(2, 6)", "net(9, 6)"))


def rewritten() -> None:
    """Let the network "deep" compute something else with the same weights."""
    nets = Path("nets.py")
    nets.write_text(nets.read_text().replace("nn.SiLU()", "nn.GELU()"))


def stored_twice() -> None:
    """Store a task under a name that is taken."""
    with Registry.open(Path("registry.duckdb"), write=True) as registry, registry.transaction():
        outcomes.add_task(registry, outcomes.task(registry, "seen"))


def weights() -> None:
    """The weights of "make", which is no known architecture, and those of a known one."""
    import torch

    namespace: dict[str, Any] = {}
    exec(Path("nets.py").read_text(), namespace)
    Path("folder").mkdir()
    for file in ("odd.safetensors", "folder/a.safetensors", "folder/b.safetensors"):
        save_file(namespace["make"]().state_dict(), file)
    torch.save(namespace["make"]().state_dict(), "odd.pt")


def package() -> None:
    """An installed package that carries the file of weights."""
    Path("tiny_nets").mkdir()
    shutil.copy("odd.safetensors", "tiny_nets/weights.safetensors")
    info = Path("tiny_nets-1.2.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-nets\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("tiny_nets\n")
    (info / "RECORD").write_text("tiny_nets/weights.safetensors,,\n")


def script() -> None:
    """The network "make" as a TorchScript file."""
    import torch

    namespace: dict[str, Any] = {}
    exec(Path("nets.py").read_text(), namespace)
    torch.jit.save(torch.jit.trace(namespace["make"]().eval(), torch.zeros(1, 3, 16, 16)), "net.pt")


def known_weights() -> None:
    """Weights of a known architecture: a file, one that lacks the head, and a folder with a configuration."""
    assert torchvision_ops.declare()
    import timm

    state = {key: value.contiguous() for key, value in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, "known.safetensors")
    save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, "headless.safetensors")
    Path("hub").mkdir()
    save_file(state, "hub/model.safetensors")
    stated = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": stated}
    Path("hub/config.json").write_text(json.dumps(config))


def lacking() -> None:
    """Remove the last model from the space of kernels, as if the space had been made before it was added."""
    ids = "model_id = 3 AND space_id = (SELECT space_id FROM spaces WHERE name = 'dds')"
    for table in ("embeddings", "maps"):
        stored(f"DELETE FROM {table} WHERE {ids}")()


def changed_images() -> None:
    """Change an image of the task."""
    shutil.copy(*sorted(Path("images").rglob("*.png"))[:2])


CASES = [
    # the registry and its folder
    case("home", "name its folder with", "list", home="none", more="--method dds --images 3", again=True),
    case("home", "ModelSpace.create(FILLED)", "list --home away", more="--method dds --images 3", again=True),
    case("registry.backups", "puts the last backup in its place", "list", "backup",
         written("registry.duckdb", "junk"), again=True, more="--force"),
    case("registry.connection", "says whether the registry is damaged",
         lambda: raise_(translated(duckdb.Error("odd"), Path("registry.duckdb")))),
    case("registry.connection", "create one", lambda: Registry.open(Path("registry.duckdb")),
         home="none", more="--method dds --images 3"),
    case("registry.schema", "create one", "list", lambda: duckdb.connect("registry.duckdb").close(),
         home="none", mend=(lambda: Path("registry.duckdb").unlink(),), more="--method dds --images 3", again=True),
    case("registry.schema", "any change migrates it", "list", again=True,
         patched={"modelspace.registry.schema.OLDEST_READABLE": 99}),
    case("workspace", "queries work without them", "rebuild", lambda: shutil.rmtree("index", ignore_errors=True),
         written("index", ""), mend=(lambda: Path("index").unlink(),), again=True),
    case("spaces.index", "this registry is older than its index", "nearest make", "nearest make", older, again=True),
    case("spaces.anchors", "`space.verify()` says which", not_in_member),
    case("spaces.index", "see: `space.verify()`", lambda: index._build(np.array([1, 1]), np.eye(2))),
    case("registry.copies", "see: `space.verify()`", a_vector, stored("UPDATE embeddings SET vector_checksum = 1"),
         **DAMAGED),
    case("spaces.milvus_parts", "see: `space.verify()`", unreadable),
    case("verbs.verify", "put the newer registry back", "verify --format json", "nearest make", older, again=True),
    case("verbs.verify", "run `space.rebuild()`", "verify --format json", "nearest make",
         lambda: [file.write_bytes(b"junk") for file in Path("index").glob("*") if file.suffix != ".json"], again=True),
    case("verbs.verify", "run `space.rebuild(coordinates=True)`", "verify --format json",
         stored("UPDATE embeddings SET residual = residual / 2 WHERE position = 1"), again=True),
    case("verbs.backup", "name a file", "restore", "backup kept.duckdb", forget_backups,
         values={"FILE": "kept.duckdb"}, more="--force"),
    case("verbs.backup", "lists the known ones", "restore away.duckdb", "backup kept.duckdb"),
    case("verbs.doctor", "`space.backup()` makes one", "doctor --format json", again=True),
    case("verbs.doctor", "`ModelSpace.create()` makes one", "doctor --format json", home="none",
         more="--method dds --images 3"),
    case("verbs.doctor", "`space.resume()` stores them", "doctor --format json", wait, again=True),
    case("verbs.pending", "the finished pass is saved in", f"add python:nets.py:make {ADDED}",
         patched={"modelspace.registry.Registry.add_model": full_disk}),
    case("verbs.pending", "run `space.resume()`", "verify --format json", wait, again=True),
    case("cli.list", "finished passes wait to be stored", "list", wait, again=True),
    # rows that are not what was stored
    case("registry.consistency", "`space.rename(name, new)`", "verify --format json",
         stored("UPDATE models SET name = 'a' || chr(27) WHERE name = 'make'"),
         values={"NAME": "a%1B", "NEW": "make"}),
    case("registry.consistency", "`space.rename_space(name, new)`", "verify --format json",
         stored("UPDATE spaces SET name = 'a' || chr(27) WHERE name = 'dds'"), values={"NAME": "a%1B", "NEW": "dds"}),
    case("registry.consistency", "`space.rename_task(name, new)`", "verify --format json",
         stored("UPDATE tasks SET name = 'a' || chr(27)"), values={"NAME": "a%1B", "NEW": "seen"}),
    case("registry.outcomes", "says what is damaged", "outcomes seen", "observe seen make 0.5",
         stored("UPDATE outcomes SET score = 0.75"), **DAMAGED),
    case("verbs.repair", "observe it again", "verify --repair repaired.duckdb --format json",
         "observe seen make 0.5", stored("UPDATE outcomes SET score = 0.75"),
         values={"TASK": "seen", "NAME": "make", "SCORE": "0.5"},
         mend=(lambda: Path("repaired.duckdb").replace("registry.duckdb"),)),
    case("spaces.neighbours", "see: `space.verify()`", "nearest make",
         stored("DELETE FROM models WHERE name = 'deep'"), **DAMAGED),
    case("registry.rows", "says of which", "spaces",
         stored("UPDATE spaces SET probe_id = 'none'"), **DAMAGED),
    case("verbs.pictures.layout", "fits all models again", "map", "map",
         stored("UPDATE projection_points SET x = 1e30"), again=True),
    case("registry.reading", "says what is damaged", "gallery make",
         stored("UPDATE maps SET scales = codes"), **DAMAGED),
    case("registry.reading", "see: `space.verify()`", "nearest make", stored("UPDATE embeddings SET vector = [NULL]"),
         **DAMAGED),
    case("spaces.kinds", "restore a copy of the registry",
         lambda: space_of(SpaceSpec("both", "yards", "blend", 10, 8))),
    case("spaces.kinds", "run `space.verify()`", "nearest make",
         stored("DELETE FROM maps WHERE model_id = 2"), **DAMAGED),
    case("spaces.kinds", "run `space.verify()`", "gallery make", stored("DELETE FROM maps"), **DAMAGED),
    case("spaces.kinds", "verify that registry", "merge other --format json", another, "remove deep -y",
         in_other(stored("DELETE FROM maps")),
         values={"ITS_FOLDER": "other"}, **DAMAGED),
    case("spaces.coordinates", "the stored maps or vectors are damaged", contradiction),
    case("verbs.export", "`space.verify()`", "export folder --what maps",
         patched={"modelspace.verbs.export.file_name": lambda *_: "one.npy"}),
    case("registry.sandbox", "tells whether the file is damaged", lambda: raise_(sandbox._died(1))),
    case("registry.sandbox", "writes whole tables", "sql 'SELECT 1'",
         patched={"modelspace.registry.sandbox.RESULT_BYTES": 1}),
    # nothing there yet
    case("analysis.distances", "add models first", lambda: distances.check_affinity([], np.empty((0, 0))), home="empty",
         values=MAKE, more=FLAGS),
    case("analysis.projection", "compute one", lambda: projection.place_new(np.empty((0, 2)), np.ones((1, 0)))),
    case("registry.reading", "create one", "nearest make", **NO_SPACE),
    case("registry.reading", "create it", "nearest make --space paper+"),
    case("verbs.add", "make one with", f"add python:nets.py:make {FLAGS}", again=True, **NO_SPACE),
    case("verbs.add_many", "make one with", "add --manifest zoo --dry-run", **NO_SPACE),
    case("verbs.fill", "make one with", "fill", **NO_SPACE),
    case("registry.reading", "add one", "show new", home="empty", values=MAKE, more=ADDED, again=True),
    case("verbs.pictures.selection", "add one", "map", home="empty", values=MAKE, more=FLAGS),
    case("verbs.evaluate", "add one", "evaluate", home="empty", values=MAKE, more=FLAGS),
    case("registry.outcomes", "add one", "task show seen", home="empty",
         values={"NAME": "seen", "DATA": "images"}, again=True),
    case("verbs.knowledge", "add some first", "suggest seen", TASK, home="empty", again=True),
    case("verbs.knowledge", "see `space.list()`", "suggest seen --where \"task = 'x'\""),
    case("verbs.label_scores", "see `space.list()`", "scores seen", TASK, home="empty"),
    case("verbs.change", "shows the models and their columns", "tag --where \"task = 'x'\" a=b"),
    # models
    case("embedding.stored", "`space.add(", "verify --reembed deep", reseeded),
    case("encoder.layers", "lists them", f"add python:nets.py:make --layer nonsense {ADDED}", values=MAKE, more=FLAGS),
    case("spaces.collectors", "its cosine with other maps is undefined", f"add python:nets.py:make {ADDED}",
         values=MAKE, more=FLAGS, patched={"modelspace.embedding.embed.Batch.maps": lambda *_: np.zeros((2, 8, 8))}),
    case("sources.file", "file: addresses are for programs", f"add file:odd.pt {ADDED} --trust-code {64 * '0'}",
         weights, more=f"{FLAGS} --name new"),
    case("sources.identify", "where make() builds the network", "add ./odd.safetensors", weights,
         more=f"{FLAGS} --name new"),
    case("sources.package", "write a function that builds the network",
         f"add package:tiny-nets/tiny_nets/weights.safetensors {FLAGS}", weights, package, more=f"{FLAGS} --name new"),
    case("sources.identify", "list them with", "add folder", weights),
    case("sources.identify", "`space.add(FILLED)`", "add ./known.safetensors", known_weights,
         values={"SIDE": "32", "MEAN": "0.5,0.5,0.5", "STD": "0.5,0.5,0.5"}, more="--name new"),
    case("sources.trust", "if you trust its origin", f"add file:net.pt {ADDED}", script, more=ADDED),
    case("verbs.add", "allow more with", f"add python:nets.py:make {ADDED} --max-seconds 0.000001",
         more="--method dds --home fifty"),
    case("verbs.add_many", "task, data and tags were not changed", "add --manifest zoo.toml --format json",
         written("zoo.toml", ZOO), values={"...": "--task other"}, again=True),
    case("verbs.nearest", "fill that space", "nearest deep --space dds", lacking, again=True),
    case("spaces.views", "methods=['dds']", "nearest make --rerank directed",
         "spaces remove dds -y", again=True),
    case("spaces.views", "methods=['local']", "nearest make --rerank local", again=True),
    case("spaces.neighbours", "or fill it with", "nearest deep --rerank directed", lacking, again=True),
    case("verbs.fill", "for the spaces of each model", "fill dds --weights away=none.pth"),
    case("verbs.fill", "put back what was registered", "fill", lacking, rewritten, more="-y"),
    case("verbs.reembed", "embed it again", "verify --reembed deep",
         stored("DELETE FROM embeddings WHERE model_id = 3"), stored("DELETE FROM maps WHERE model_id = 3"),
         again=True),
    # spaces and probe sets
    case("spaces.kinds", "name one that does with", "gallery make --space dds"),
    case("spaces.kinds", "blend spaces on the same images", "init --space both --blend dds=1,few=1",
         "init --space few --method saliency --probes yards --images 3"),
    case("verbs.contents", "lists them", lambda: opened().kernels(["make"], space="saliency")),
    case("spaces.probe_sets", "shows the probe sets", "init --probes nonsense --method saliency"),
    case("verbs.change", "`space.spaces()` lists them", lambda: opened().remove_space([])),
    case("verbs.change", "remove these models first", "spaces remove dds saliency -y",
         values={"URI": "zoo:curvature"}),
    case("verbs.change", "remove it too", "spaces remove dds -y", "init --space both --blend dds=1,saliency=1",
         more="-y"),
    case("verbs.change", "make another one the default first", "spaces remove saliency -y", again=True),
    # tasks
    case("registry.outcomes", "or remove it first", stored_twice),
    case("verbs.tasks", "or remove it first", TASK, again=True),
    case("verbs.bench", "register it with its images", "scores told", "task add told", values={
        "name": "new", "folder": "images"}),
    case("verbs.bench", "register them under a new name", "scores seen", changed_images),
    case("verbs.evaluate_search", "register one with its images", "evaluate --search --task all", home="empty", values={
        "name": "new", "folder": "images"}),
    case("verbs.prospects", "every model was measured on this task", "suggest seen", "observe seen make 0.5",
         "observe seen wide 0.5", "observe seen deep 0.5", values={"TASK": "seen"}),
    case("verbs.published", "rename it", "outcomes --import published", f"task add {PUBLISHED} images", values={
        "OLD": PUBLISHED, "NEW": "ours"}, again=True),
    case("verbs.tasks", "rename one of them", "merge other --format json", another, "task remove seen --home other",
         f"{TASK} --metric f1 --home other", values={"OLD": "seen", "NEW": "ours"}, again=True),
    case("verbs.tasks", "create a task with that metric", "observe --from scores.csv",
         written("scores.csv", "task,model,score,metric\nseen,make,0.5,f1\n"), values={"NAME": "new"}),
    case("verbs.tasks", "example: `space.observe", lambda: opened().observe("seen", "make"),
         values={"TASK": "seen", "NAME": "make"}),
    # pictures and tables
    case("evaluation.matrices", "write the affinities", "evaluate --matrix vectors.npy", "export vectors.npy"),
    case("verbs.pictures.curves", "write one as JSON", "curves scores.csv", written("scores.csv", "a,b\n1,2\n"),
         written("oracle.csv", ORACLE), more="--oracle oracle.csv"),
    case("verbs.pictures.gallery", "layers=['auto']", "gallery make wide --layers auto"),
    case("verbs.pictures.gallery", "images=[0]", lambda: opened().gallery(images=[])),
    case("verbs.pictures.layout", "models were added after this map was fitted", "map", "map",
         stored("UPDATE projection_points SET placed = true"), again=True),
    case("verbs.pictures.pages", "embed those", "atlas --space ranked",
         "init --space ranked --blend saliency=1 --rerank directed",
         lacking, again=True),
    case("verbs.sql", "has that order", "sql \"FROM nearest('make', 2)\"",
         "init --space ranked --blend saliency=1 --rerank directed --default", values={"NAME": "make"}),
]  # fmt: skip
