"""Texts and small files of users, changed at random: every parser answers, or says in one sentence what is wrong.

    python scripts/torture/parsers.py [--minutes 0.05 | --full] [--parser NAME] [--seed 0] [--out parsers.json]

`--minutes` is for each parser; `--full` gives all of them together ten minutes. No exception but ModelspaceError may
leave a parser, and none may take longer than `SECONDS` for an input.
"""

from __future__ import annotations

import argparse
import copy
import functools
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.weights import mutated

#: Seconds after which an input counts as one that never ends.
SECONDS = 10

#: Wall seconds that it may take: an input that names a large folder waits for the disk, and for other programs.
WALL_SECONDS = 120

#: GB of addresses that the process may use in addition to what it uses at first.
ROOM = 4

#: Minutes of all parsers together with `--full`.
FULL_MINUTES = 10.0

WORDS = (
    *("", " ", "\n", "\r\n", "\0", "\t", ",", ";", '"', "'", '"""', "\\", "/", ":", "@", "=", "[", "]", "{", "}", "#"),
    *("nan", "NaN", "inf", "-inf", "1e999", "-0", "0x10", "1_000", "9" * 5000, "1e-400", "true", "null", "½", "٣"),
    *("../..", "/dev/zero", "~", "%00", "\ufeff", "\u202e", "\ud7ff", "a" * 5000, "[" * 3000, "{" * 3000, "(" * 300),
    *("path", "label", "model", "score", "task", "seed", "uri", "name", "weights", "input_size", "mean", "__class__"),
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, float("nan"), float("inf")),
    *("", "a", "0", "nan", "\0", "../..", "a" * 5000, [], {}, [[]], [None], {"": {}}, [1, 2, 3], [224, 224], {"a": 1}),
    *([1e999], [[0.5]], ["0.5"], [True], [10**30, 10**30], [0] * 2000),
)  # fmt: skip


def changed_text(text: str, draw: random.Random) -> bytes:
    """A copy with words inserted, replaced, lines doubled, and now and then bytes changed."""
    for _ in range(draw.randint(1, 4)):
        place, end = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        match draw.randrange(5):
            case 0:
                text = text[:place] + draw.choice(WORDS) + text[place:]
            case 1:
                text = text[:place] + draw.choice(WORDS) + text[min(end, place + 9) :]
            case 2:
                lines = text.splitlines(keepends=True) or [""]
                lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
                text = "".join(lines)
            case 3:
                text = text[:place] + text[min(end, place + 40) :]
            case 4:
                parts = text.split(",")
                parts[draw.randrange(len(parts))] = draw.choice(WORDS)
                text = ",".join(parts)
    data = text.encode("utf-8", "surrogatepass")
    return mutated(data, draw) if draw.random() < 0.2 else data


def changed_value(value: Any, draw: random.Random) -> Any:
    """A copy of a JSON value with entries replaced, renamed, removed or added at any depth."""
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        place = value
        while isinstance(place, dict | list) and place:
            keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.7:
                place = place[key]
                continue
            if draw.random() < 0.7:
                place[key] = copy.deepcopy(draw.choice(VALUES))
            elif isinstance(place, dict):
                moved = place.pop(key)
                if draw.random() < 0.5:
                    place[draw.choice(WORDS)] = moved
            else:
                place.insert(key, copy.deepcopy(draw.choice(VALUES)))
            break
    return copy.deepcopy(draw.choice(VALUES)) if draw.random() < 0.03 else value


def json_text(value: Any, draw: random.Random) -> bytes:
    text = json.dumps(changed_value(value, draw))
    return changed_text(text, draw) if draw.random() < 0.2 else text.encode()


# --- the parsers: each draws an input and parses it; what it returns does not matter

Parser = Callable[[random.Random, Path], object]


def address(draw: random.Random, folder: Path) -> object:
    from modelspace.sources import parse_uri
    from modelspace.verbs.manifest import from_mappings

    starts = (
        "timm:resnet18.a1_in1k",
        "python:nets.py:make",
        "hf-hub:org/name@main",
        "file:a.pt2",
        "package:a/b.onnx",
        "",
    )
    text = changed_text(draw.choice(starts), draw).decode("utf-8", "replace")
    if draw.random() < 0.5:
        return parse_uri(text)
    return from_mappings([{"uri": text, "weights": draw.choice(WORDS)}], folder)


PREPROCESSING = {
    "input_size": [224, 192], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "channels": "rgb", "resize": 256,
    "interpolation": "bilinear", "crop": "center", "layout": "nchw", "scale": 255,
}  # fmt: skip

TOML = """
[defaults]
mean = [0.5, 0.5, 0.5]
input_size = 224

[[model]]
uri = "timm:resnet18"
name = "r18"
tags = {task = "depth"}

[[model]]
uri = "python:nets.py:make"
weights = "w.pt"
layer = "output"
"""

TABLE = (
    "uri,name,weights,input_size,mean,tag:task\ntimm:resnet18,r18,,224,0.5;0.5;0.5,depth\npython:a.py:f,b,w.pt,64,,\n"
)


def manifest(draw: random.Random, folder: Path) -> object:
    from modelspace.verbs import manifest as manifests

    suffix, text = draw.choice(((".toml", TOML), (".csv", TABLE)))
    path = folder / f"zoo{suffix}"
    path.write_bytes(changed_text(text, draw))
    return manifests.read(path)


def manifest_mappings(draw: random.Random, folder: Path) -> object:
    from modelspace.verbs.manifest import from_mappings

    rows = [{"uri": "timm:resnet18", "name": "a", "tags": {"a": "b"}, **PREPROCESSING}, {"uri": "a:b", "weights": "w"}]
    value = changed_value(rows, draw)
    return from_mappings(value, folder) if isinstance(value, list) and all(isinstance(v, dict) for v in value) else None


def preprocessing(draw: random.Random, folder: Path) -> object:
    from modelspace.sources.base import PreprocessingFlags
    from modelspace.types import Preprocessing

    value = changed_value(PREPROCESSING, draw)
    if draw.random() < 0.3:
        texts = {key: changed_text(str(text), draw).decode("utf-8", "replace") for key, text in PREPROCESSING.items()}
        keys = draw.sample(("input_size", "mean", "std", "channels", "interpolation", "crop", "layout"), 3)
        return PreprocessingFlags.parse(**{key: texts[key] for key in keys})
    if not isinstance(value, dict):
        return None
    return draw.choice((PreprocessingFlags.from_dict, Preprocessing.from_dict))(value)


@functools.cache
def _registry() -> tuple[Path, bytes]:
    """A registry with one model, and the bytes of a finished pass of another."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
    import small_spaces

    from modelspace.registry import Registry
    from modelspace.types import ModelCard, Preprocessing
    from modelspace.verbs import pending
    from modelspace.verbs.passes import Computed

    home = Path(tempfile.mkdtemp())
    Registry.create(home / "registry.duckdb")
    with Registry.open(home / "registry.duckdb", write=True) as registry, registry.transaction():
        registry.add_probe_set(small_spaces.PROBES, None)
        registry.add_space(small_spaces.MAPS, default=True)
        registry_id = registry.registry_id
    card = ModelCard(
        "b", "test:b", "sha", "fc:in", "test", output_shape=(2, 3), parameters=7, task="t",
        preprocessing=Preprocessing((8, 6), mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)),
    )  # fmt: skip
    spec = small_spaces.MAPS
    blocks = {spec.space_id: small_spaces.blocks_of(1)[spec.space_id]}
    file = pending.keep(home / "registry.duckdb", Computed(card, (spec.name,), blocks, (), registry_id), False)
    assert pending.read(file, home / "registry.duckdb").computed.card == card  # sound before it is changed
    return home / "registry.duckdb", file.read_bytes()


def finished_pass(draw: random.Random, folder: Path) -> object:
    from modelspace.verbs import pending

    registry, data = _registry()
    path = folder / "b-00000000.pass"
    if draw.random() < 0.3:
        path.write_bytes(mutated(data, draw))
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, json_text(json.loads(content), draw) if name == "pass.json" else content)
    return pending.read(path, registry)


def index_manifest(draw: random.Random, folder: Path) -> object:
    import numpy as np

    from modelspace.spaces import index

    vectors = np.eye(5, 7, dtype=np.float32)

    def load() -> index.SpaceIndex:
        return index.load(folder, "s", registry_id="r", generation=3, fetch=lambda: (np.arange(10, 15), vectors))

    load()
    manifest_file, vectors_file = folder / "s.json", folder / "s.faiss"
    manifest_file.write_bytes(json_text(json.loads(manifest_file.read_bytes()), draw))
    if draw.random() < 0.2:
        vectors_file.write_bytes(mutated(vectors_file.read_bytes(), draw))
    index.status(folder, "s", "r", 3)
    scores, ids = load().search(vectors, 1)
    assert ids[:, 0].tolist() == list(range(10, 15)), "a wrong answer"
    assert np.allclose(scores, 1), "a wrong answer"
    return ids


LABELS = "path,label\na/0.png,cat\na/1.png,dog\na/2.png,cat\na/3.png,dog\n"
NUMBERS = "path,label\na/0.png,0.5\na/1.png,1.5\na/2.png,2.5\na/3.png,-1e3\n"


def task_labels(draw: random.Random, folder: Path) -> object:
    from modelspace.tasks import data

    if not (folder / "a").is_dir():
        from PIL import Image

        (folder / "a").mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "a" / f"{number}.png")
    (folder / "labels.csv").write_bytes(changed_text(draw.choice((LABELS, NUMBERS)), draw))
    images = data.read(folder / "labels.csv", draw.choice((None, "classification", "regression")))
    return images.fingerprint


OUTCOMES = (
    "model,score,task,how,n_train,seed,seconds,note,measured_at\n"
    "a,0.5,t,finetune,100,1,3.5,none,2026-01-01T10:00:00\nb,,t,,,,,failed,\nc,1,u,,,,,,2026-01-01T10:00:00+01:00\n"
)


def outcomes(draw: random.Random, folder: Path) -> object:
    from modelspace.verbs.tasks import read_observations

    (folder / "outcomes.csv").write_bytes(changed_text(OUTCOMES, draw))
    return read_observations(folder / "outcomes.csv", draw.choice((None, "t")))


SQUARE = ",a,b,c\na,1,0.5,0.25\nb,0.5,1,0.1\nc,0.25,0.1,1\n"
PAIRS = "target,source,affinity\na,a,1\na,b,0.5\nb,a,0.25\nb,b,1\n"


def affinities(draw: random.Random, folder: Path) -> object:
    import numpy as np

    from modelspace.evaluation.matrices import read_affinity

    if draw.random() < 0.5:
        (folder / "m.csv").write_bytes(changed_text(draw.choice((SQUARE, PAIRS)), draw))
        return read_affinity(folder / "m.csv")
    stream = io.BytesIO()
    np.save(stream, draw.choice((np.eye(3), np.eye(3, dtype=np.int8), np.array(["a"]), np.zeros((3, 3, 3)))))
    (folder / "m.npy").write_bytes(mutated(stream.getvalue(), draw) if draw.random() < 0.8 else stream.getvalue())
    (folder / "m.txt").unlink(missing_ok=True)
    if draw.random() < 0.5:
        (folder / "m.txt").write_bytes(changed_text("a\nb\nc\n", draw))
    else:
        (folder / "m.json").write_bytes(json_text(["a", "b", "c"], draw))
    return read_affinity(folder / "m.npy")


MEASURED = "target,source,loss,seed\na,b,0.5,1\na,c,0.25,1\nb,a,0.1,1\nb,c,0.2,2\n"


def oracle(draw: random.Random, folder: Path) -> object:
    from modelspace.evaluation.oracles import load

    (folder / "oracle.csv").write_bytes(changed_text(draw.choice((MEASURED, MEASURED.replace("loss", "score"))), draw))
    return load(str(folder / "oracle.csv"), draw.choice((None, None, "loss", "x")))


CURVES = {
    "methods": [
        {"method": name, "summary": {figure: {"mean": [0.5, 0.25]} for figure in ("precision", "recall")}}
        for name in ("dds", "random")
    ]
}
CURVE_ROWS = "method,figure,k,mean\ndds,precision,1,0.5\ndds,precision,2,0.25\ndds,recall,1,0.1\ndds,recall,2,0.2\n"


def curves(draw: random.Random, folder: Path) -> object:
    from modelspace.verbs.pictures.curves import read_curves

    if draw.random() < 0.5:
        (folder / "c.json").write_bytes(json_text(CURVES, draw))
        return read_curves(folder / "c.json")
    (folder / "c.csv").write_bytes(changed_text(CURVE_ROWS, draw))
    return read_curves(folder / "c.csv")


def newick(draw: random.Random, folder: Path) -> object:
    from modelspace.analysis.newick import parse_newick

    text = changed_text("((a:0.5,'b c':1)x:2,(c,d:1e-3)'it''s');", draw)
    return parse_newick(text.decode("utf-8", "replace"))


PARSERS: tuple[Parser, ...] = (
    address,
    manifest,
    manifest_mappings,
    preprocessing,
    finished_pass,
    index_manifest,
    task_labels,
    outcomes,
    affinities,
    oracle,
    curves,
    newick,
)


# --- running


@dataclass
class Tally:
    """What one parser did."""

    tried: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_input: str = ""
    failures: list[str] = field(default_factory=list)


class TooLong(BaseException):
    """An input took longer than it may; no parser catches it."""


def _stop(signum: int, frame: object) -> None:
    raise TooLong


def try_input(parser: Parser, number: int, seed: int, folder: Path, tally: Tally) -> None:
    """Parse one input, which its number and the seed define."""
    from modelspace.errors import ModelspaceError

    draw = random.Random(f"{parser.__name__} {seed} {number}")
    start, problem = time.monotonic(), ""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        parser(draw, folder)
    except ModelspaceError:
        tally.refused += 1
    except TooLong:
        problem = f"took more than {SECONDS} seconds of a core, or {WALL_SECONDS} of the clock"
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        problem = f"{type(error).__name__} ({where}): {str(error)[:150]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    tally.tried += 1
    seconds = time.monotonic() - start
    if seconds > tally.slowest:
        tally.slowest, tally.slowest_input = seconds, f"{parser.__name__} --only {number}"
    if problem:
        tally.failures.append(
            f"{parser.__name__} (--parser {parser.__name__} --only {number} --seed {seed}): {problem}"
        )


def run(parser: Parser, minutes: float, seed: int) -> Tally:
    """Give a parser inputs for some minutes; imports, and what it needs, are not counted."""
    import modelspace.embedding.prepare  # noqa: F401

    if parser is finished_pass:
        _registry()
    tally, end, number = Tally(), time.monotonic() + 60 * minutes, 0
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try_input(parser, 0, seed, Path(root), Tally())
        while time.monotonic() < end and len(tally.failures) < 50:
            try_input(parser, number, seed, Path(root), tally)
            number += 1
    return tally


def _limit() -> None:
    signal.signal(signal.SIGALRM, _stop)
    signal.signal(signal.SIGPROF, _stop)
    os.environ["MODELSPACE_CACHE"] = ""
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + (ROOM << 30), used + (ROOM << 30)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.05, help="for each parser")
    parser.add_argument("--full", action="store_true", help=f"{FULL_MINUTES:.0f} minutes for all together")
    parser.add_argument("--parser", choices=[each.__name__ for each in PARSERS], help="only this one")
    parser.add_argument("--only", type=int, help="number of the only input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    minutes = FULL_MINUTES / len(PARSERS) if options.full else options.minutes
    chosen = [each for each in PARSERS if options.parser in (None, each.__name__)]
    _limit()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as root:
            chosen[0](random.Random(f"{chosen[0].__name__} {options.seed} {options.only}"), Path(root))
        return
    start, key = time.monotonic(), f"--minutes {minutes:.3f} --seed {options.seed}"
    stored = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {}
    tallies = {name: Tally(**value) for name, value in stored.get("parsers", {}).items() if stored.get("run") == key}
    before = stored.get("seconds", 0.0) if tallies and len(tallies) < len(PARSERS) else 0.0
    tallies = tallies if len(tallies) < len(PARSERS) else {}
    for each in chosen:
        if each.__name__ not in tallies:
            tallies[each.__name__] = run(each, minutes, options.seed)
        if options.out:
            _store(options.out, key, tallies, before + time.monotonic() - start)
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    for failure in failures:
        print(failure)
    tried, refused = (sum(getattr(tally, what) for tally in tallies.values()) for what in ("tried", "refused"))
    slowest = max(tallies.values(), key=lambda tally: tally.slowest)
    print(
        f"{len(tallies)} parsers, {minutes:.2f} minutes each: {tried:,} inputs, {refused:,} refused in a sentence, the "
        f"others read, {len(failures)} failures; at most {slowest.slowest:.1f} s for one "
        f"({slowest.slowest_input})"
    )
    sys.exit(1 if failures else 0)


def _store(out: Path, key: str, tallies: dict[str, Tally], seconds: float) -> None:
    figures: dict[str, Any] = {f"{name}: tried": tally.tried for name, tally in tallies.items()}
    figures |= {f"{name}: refused": tally.refused for name, tally in tallies.items()}
    figures["failures"] = sum(len(tally.failures) for tally in tallies.values())
    parsers = {name: vars(tally) for name, tally in tallies.items()}
    report = {"run": key, "figures": figures, "seconds": round(seconds, 1), "parsers": parsers}
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
