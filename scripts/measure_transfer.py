"""Measure how well each network of the zoo transfers to each task: the oracle that rankings are evaluated against.

    python scripts/measure_transfer.py                   measure what is missing, write tables to .cache/transfer
    python scripts/measure_transfer.py --publish         the same, but write the tables to the package
    python scripts/measure_transfer.py --world yards     train and test readouts in another world
    python scripts/measure_transfer.py --world streets --publish --constants --no-baselines
    python scripts/measure_transfer.py --constants       also compare losses with the constant predictor's
    python scripts/measure_transfer.py --sources rgb2depth --targets reshade,edge2d --seeds 2 --epochs 2

Losses are appended to transfer.csv in the cache after each source, so a run that was killed, or that has more seeds or
sources, measures only what is missing. The 20 tasks' networks come first; --sources tasks writes the tables of these
alone. A network whose weights changed is measured again. The method is described in
modelspace/lab/transfer.py. The `Budget` of the readouts is stored with the losses; different budgets are never mixed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modelspace import evaluation, zoo
from modelspace.errors import ConflictError, ModelspaceError, NotFoundError
from modelspace.lab import ahp, training, transfer
from modelspace.lab.decoders import tapped
from modelspace.lab.tasks import TASKS
from modelspace.lab.transfer import TARGETS, Budget
from modelspace.worlds import WORLDS

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("source", "target", "seed", "weights", "loss")
#: The world that the zoo was trained in keeps the cache's plain name.
HOME = "rooms"
TABLES = {"losses": "transfer.csv", "affinities": "affinity.csv"}

Key = tuple[str, str, int]  # source, target, seed


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options; words: arguments instead of those of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sources", help="comma-separated networks of the zoo, or tasks: the 20 tasks' networks; default: all"
    )
    parser.add_argument("--targets", help="comma-separated tasks; default: the 18 of Taskonomy's table")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (0, 1, ...) per pair")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="number of processes, with one thread each")
    parser.add_argument("--world", choices=tuple(WORLDS), default=HOME, help="world in which transfer is measured")
    parser.add_argument(
        "--cache", type=Path, help="folder for images and losses; default: .cache/transfer, or .cache/transfer-WORLD"
    )
    parser.add_argument("--out", type=Path, help="folder for the tables; default: the cache")
    parser.add_argument(
        "--publish", action="store_true", help="write the tables to the package, as the oracle of that name"
    )
    parser.add_argument(
        "--constants",
        action="store_true",
        help="also print each target's best loss relative to the constant predictor's",
    )
    parser.add_argument(
        "--no-baselines",
        action="store_true",
        help="print how well the seeds agree, but no ranking: for an oracle on which nothing is to be chosen",
    )
    for field in fields(Budget):
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="see Budget")
    options = parser.parse_args(words)
    if options.cache is None:
        options.cache = ROOT / ".cache" / ("transfer" if options.world == HOME else f"transfer-{options.world}")
    return options


# ---- what has been measured


@dataclass(frozen=True)
class Ledger:
    """Measured losses: an append-only CSV file, and one file of per-image losses per source.

    A row is appended only after its per-image losses are on disk.
    """

    folder: Path

    @property
    def csv(self) -> Path:
        """The table of losses."""
        return self.folder / "transfer.csv"

    def open(self, budget: Budget, world: str) -> None:
        """Associate the folder with a budget and a world.

        Raises:
            ConflictError: it has losses measured with another budget or world.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {"budget": asdict(budget), "renderer": training.world_version(world)}
        if world != HOME:
            settings["world"] = world
        path = self.folder / "settings.json"
        if path.exists() and json.loads(path.read_text()) != settings:
            raise ConflictError(
                f"according to {path}, these losses were measured with another budget or in another world",
                "use the same options, or another --cache",
            )
        if not path.exists():
            _replace(path, (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode())

    def rows(self) -> Iterator[dict[str, str]]:
        """All complete rows; a last line truncated by a kill is dropped."""
        if not self.csv.exists():
            return
        text = self.csv.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        yield from csv.DictReader(io.StringIO(complete))

    def done(self, weights: dict[str, str]) -> dict[Key, float]:
        """Losses of the networks whose weights have not changed since they were measured."""
        return {
            (row["source"], row["target"], int(row["seed"])): float(row["loss"])
            for row in self.rows()
            if weights.get(row["source"]) == row["weights"]
        }

    def images(self, source: str, weights: str) -> dict[str, np.ndarray]:
        """A source's losses, "target/seed" -> (held-out images,)."""
        path = self._images(source, weights)
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def add(self, source: str, weights: str, losses: dict[tuple[str, int], np.ndarray]) -> None:
        """Record the per-image losses of one source."""
        arrays = self.images(source, weights) | {f"{target}/{seed}": row for (target, seed), row in losses.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        _replace(self._images(source, weights), buffer.getvalue())
        lines = [
            f"{source},{target},{seed},{weights},{row.mean(dtype=np.float64):.7g}\n"
            for (target, seed), row in losses.items()
        ]
        with self.csv.open("ab") as stream:
            if stream.tell() == 0:
                stream.write((",".join(COLUMNS) + "\n").encode())
            elif not _ends_with_newline(self.csv):
                # Remove a truncated line, or the next row would be appended to it.
                stream.truncate(self.csv.read_bytes().rfind(b"\n") + 1)
            stream.write("".join(lines).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _images(self, source: str, weights: str) -> Path:
        return self.folder / "images" / f"{source}-{weights}.npz"


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


# ---- measuring


class Tap(nn.Module):
    """A network's encoder: its output is the tensor named in the network's card."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, x: Tensor) -> Tensor:
        """The encoder's output."""
        return tapped(self.network, self.layer, x)


@dataclass(frozen=True)
class Work:
    """Missing measurements of one source: readouts for these targets and seeds."""

    source: str
    weights: str
    targets: tuple[str, ...]
    seeds: tuple[int, ...]


def missing(done: Iterable[Key], weights: dict[str, str], targets: Sequence[str], seeds: Sequence[int]) -> list[Work]:
    """The missing measurements, the tasks' networks first.

    Readouts of a source that lack the same seeds are trained together.
    """
    measured, work = set(done), []
    for source, stamp in weights.items():
        by_seeds: dict[tuple[int, ...], list[str]] = {}
        for target in targets:
            missing_seeds = tuple(seed for seed in seeds if (source, target, seed) not in measured)
            if missing_seeds:
                by_seeds.setdefault(missing_seeds, []).append(target)
        work += [Work(source, stamp, tuple(names), missing_seeds) for missing_seeds, names in by_seeds.items()]
    return sorted(work, key=lambda item: item.source not in TASKS)


def measure(
    work: Work, cache: Path, budget: Budget, targets: Sequence[str], device: str, world: str
) -> tuple[Work, dict[tuple[str, int], np.ndarray], float]:
    """Measure one source: (work, losses, seconds); scenes are cached within a process."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    pool, held_out = _scenes(cache, budget, tuple(targets), device, world)
    card = zoo.card(work.source)
    encoder = Tap(zoo.load(work.source).to(device).requires_grad_(False), card.layer)
    side = card.preprocessing.input_size[0]
    losses = transfer.measure(encoder, side, pool, held_out, work.targets, work.seeds, budget)
    return work, losses, time.perf_counter() - start


_SCENES: dict[object, tuple[transfer.Scenes, transfer.Scenes]] = {}


def _scenes(
    cache: Path, budget: Budget, targets: tuple[str, ...], device: str, world: str
) -> tuple[transfer.Scenes, transfer.Scenes]:
    key = (cache, budget, targets, device, world)
    if key not in _SCENES:
        _SCENES.clear()
        _SCENES[key] = transfer.prepare(cache, budget, targets, device, world)
    return _SCENES[key]


def measure_all(
    work: Sequence[Work], cache: Path, budget: Budget, targets: Sequence[str], device: str, workers: int, world: str
) -> Iterator[tuple[Work, dict[tuple[str, int], np.ndarray], float]]:
    """Measure everything, in this process or in several; yields results as they are done."""
    if workers <= 1 or len(work) <= 1:
        yield from (measure(item, cache, budget, targets, device, world) for item in work)
        return
    # A fork would copy the state of OpenMP's threads and hang, so processes are spawned.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(work)), mp_context=context) as pool:
        futures = [pool.submit(measure, item, cache, budget, tuple(targets), device, world) for item in work]
        for future in as_completed(futures):
            yield future.result()


# ---- the tables


def loss_table(done: dict[Key, float], sources: Sequence[str], targets: Sequence[str], seeds: Sequence[int]) -> str:
    """CSV text: target, source, seed, loss; one row per measured pair and seed."""
    lines = ["target,source,seed,loss"]
    for target in targets:
        for source in sources:
            lines += [
                f"{target},{source},{seed},{done[source, target, seed]:.6g}"
                for seed in seeds
                if (source, target, seed) in done
            ]
    return "\n".join(lines) + "\n"


def affinity_table(
    images: dict[str, dict[str, np.ndarray]], sources: Sequence[str], targets: Sequence[str], seeds: Sequence[int]
) -> str:
    """CSV text: target, source, win_rate, affinity, as in Taskonomy (`modelspace.lab.ahp`).

    Tournaments are over all held-out images and seeds, between the sources measured on all of them, including the
    target's own encoder.
    """
    lines = ["target,source,win_rate,affinity"]
    for target in targets:
        names = [f"{target}/{seed}" for seed in seeds]
        complete = [source for source in sources if all(name in images[source] for name in names)]
        if not complete:
            continue
        wins = ahp.win_matrix([np.concatenate([images[source][name] for name in names]) for source in complete])
        lines += [
            f"{target},{source},{rate:.6g},{affinity:.6g}"
            for source, rate, affinity in zip(complete, ahp.win_rates(wins), ahp.affinities(wins), strict=True)
        ]
    return "\n".join(lines) + "\n"


def constants_table(done: dict[Key, float], constant: dict[str, float], seeds: Sequence[int]) -> str:
    """Markdown: each target's best source, its loss (mean over seeds), the constant predictor's, and their ratio."""
    lines = ["| target | best source | loss | constant | ratio |", "|---|---|---|---|---|"]
    for target, constant_loss in constant.items():
        sources = {source for source, name, _ in done if name == target}
        means = {
            source: sum(losses) / len(losses)
            for source in sources
            if (losses := [done[source, target, seed] for seed in seeds if (source, target, seed) in done])
        }
        best = min(means, key=lambda source: means[source])
        ratio = means[best] / constant_loss
        lines.append(f"| {target} | {best} | {means[best]:.3f} | {constant_loss:.3f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def agreement(oracle: evaluation.Oracle) -> str:
    """One seed's order against another's, mean over targets, and the targets on which they agree least."""
    reliability = oracle.reliability()
    if reliability is None:
        return "one seed: no reliability"
    worst = sorted(zip(reliability.per_target, oracle.targets, strict=True))[:3]
    k = min(5, len(reliability.precision))
    return (
        f"{reliability.n_seeds} seeds, {len(oracle.sources)} sources: P@{k} {reliability.precision[k - 1]:.2f}, "
        f"Spearman {reliability.spearman:.2f}, Kendall {reliability.kendall:.2f}, "
        f"Spearman of their mean {reliability.spearman_of_mean:.2f}; "
        f"least for {', '.join(f'{name} {value:.2f}' for value, name in worst)}"
    )


def _names(words: str | None, known: Sequence[str], kind: str) -> list[str]:
    if words is None:
        return list(known)
    names = list(dict.fromkeys(words.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise NotFoundError(f"there is no {kind} {', '.join(unknown)}", f"use {', '.join(known)}")
    return names


def stamps(sources: Sequence[str]) -> dict[str, str]:
    """Source -> first 12 hexadecimal digits of the SHA-256 of its weights file."""
    return {name: hashlib.sha256(zoo.card(name).weights.read_bytes()).hexdigest()[:12] for name in sources}


def run(options: argparse.Namespace) -> None:
    """Measure what is missing and write the tables."""
    budget = Budget(**{field.name: getattr(options, field.name) for field in fields(Budget)})
    chosen = ",".join(TASKS) if options.sources == "tasks" else options.sources
    sources = _names(chosen, zoo.names(), "network")
    targets = _names(options.targets, TARGETS, "target")
    seeds = range(options.seeds)
    ledger = Ledger(options.cache)
    ledger.open(budget, options.world)
    weights = stamps(sources)
    work = missing(ledger.done(weights), weights, targets, seeds)
    count = sum(len(item.targets) * len(item.seeds) for item in work)
    print(f"{len(sources)} sources x {len(targets)} targets x {len(seeds)} seeds, {count} readouts to do", flush=True)
    start = time.perf_counter()
    for item, losses, seconds in measure_all(
        work, options.cache, budget, targets, options.device, options.workers, options.world
    ):
        ledger.add(item.source, item.weights, losses)
        print(f"{item.source}: {len(losses)} readouts, {seconds:.0f} s", flush=True)
    print(f"done in {time.perf_counter() - start:.0f} s", flush=True)
    folder = ROOT / "modelspace" / "evaluation" / "data" if options.publish else options.out or options.cache
    images = {source: ledger.images(source, weights[source]) for source in sources}
    tables = {
        "losses": loss_table(ledger.done(weights), sources, targets, seeds),
        "affinities": affinity_table(images, sources, targets, seeds),
    }
    for kind, text in tables.items():
        file = f"{options.world}_{TABLES[kind]}"
        _replace(folder / file, text.encode())
        print(f"wrote {file}: {text.count(chr(10)) - 1} rows")
    if options.constants:
        scenes = _scenes(options.cache, budget, tuple(targets), options.device, options.world)
        print(constants_table(ledger.done(weights), transfer.constant_losses(*scenes), seeds))
    if len(targets) > 1 and len(sources) > 2:
        oracle = evaluation.load(folder / f"{options.world}_{TABLES['losses']}")
        print(agreement(oracle) if options.no_baselines else evaluation.evaluate({}, oracle).to_markdown())


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        run(parse())
    except ModelspaceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
