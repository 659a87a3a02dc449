"""Train the networks of the zoo, or print the tables of the existing ones.

    python scripts/train_zoo.py                      train all missing networks
    python scripts/train_zoo.py --tasks rgb2depth    train these, again if they exist
    python scripts/train_zoo.py --table              print the tables of docs/lab-book/zoo.md
    python scripts/train_zoo.py --docs               write them there

Rendered images and checkpoints go to the cache. A run that was killed resumes from its last checkpoint, and ends with
the weights of an uninterrupted run. Several runs may share a cache.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from modelspace.errors import ModelspaceError
from modelspace.lab import training
from modelspace.lab.tasks import FACE_TASKS, TASKS
from modelspace.lab.training import Job

ROOT = Path(__file__).resolve().parent.parent

#: The networks of the zoo, in order of training.
TASKONOMY = (
    "rgb2depth", "rgb2sfnorm", "autoencoder", "segmentsemantic", "edge2d", "edge3d", "reshade", "keypoint2d",
    "class_1000", "class_places", "denoise", "curvature", "vanishing_point", "room_layout", "inpainting_whole",
    "segment25d", "segment2d", "keypoint3d", "rgb2mist", "colorization",
)  # fmt: skip
CLASSIFIERS = (
    "resnet50", "resnet101", "resnet152", "vgg16", "vgg19", "inception", "inception_resnet",
    "mobilenet_100", "mobilenet_050", "mobilenet_025",
)  # fmt: skip
LITERATURE = (
    Job("inpainting_rooms", "inpainting_whole", "inpainter", "rooms"),
    Job("inpainting_faces", "inpainting_whole", "inpainter", "faces"),
    Job("inpainting_portraits", "inpainting_whole", "inpainter", "portraits"),
    Job("inpainting_patterns", "inpainting_whole", "inpainter", "patterns"),
    Job("fcrn_depth", "rgb2depth", "depth_net"),
    Job("fcn_segmentation", "segmentsemantic", "segmentation_net"),
    Job("prn_faces", "face_alignment", "face_aligner", "portraits"),
    Job("tiny_faces", "face_detection", "face_detector", "crowds"),
    Job("colorization_2", "colorization", "colorizer"),
)
JOBS = {
    job.name: job
    for job in (
        *(Job(name, name, steps=2400 if name == "class_1000" else 1600) for name in TASKONOMY),
        *(
            Job(f"{name}_objects", "class_1000", name, steps=1000, images=4000, rate=1e-3 if "vgg" in name else 3e-3)
            for name in CLASSIFIERS
        ),
        *(
            replace(
                job,
                steps=600,
                images=8000 if job.world == "rooms" else 2000,
                rate=1.5e-3 if job.architecture == "inpainter" else 3e-3,
            )
            for job in LITERATURE
        ),
    )
}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options; words: arguments instead of those of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", help="comma-separated networks to train; default: all missing ones")
    parser.add_argument("--steps", type=int, help="optimiser steps of each network, instead of its default")
    parser.add_argument("--images", type=int, help="training scenes of each network, instead of its default")
    parser.add_argument("--held-out", type=int, default=1000, help="number of held-out scenes for the scores")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--threads", type=int, default=1, help="PyTorch threads; results are reproducible for a fixed number"
    )
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "zoo", help="folder for images and checkpoints")
    parser.add_argument("--out", type=Path, default=ROOT / "modelspace" / "zoo", help="folder for weights and zoo.json")
    parser.add_argument("--table", action="store_true", help="print the table of the networks in --out and stop")
    parser.add_argument("--docs", action="store_true", help="write that table into docs/lab-book/zoo.md and stop")
    return parser.parse_args(words)


def jobs(options: argparse.Namespace) -> list[Job]:
    """The jobs that the command line asks for.

    Raises:
        ModelspaceError: a name is unknown.
    """
    if options.tasks:
        names = options.tasks.split(",")
        if unknown := [name for name in names if name not in JOBS]:
            raise ModelspaceError(f"there is no network {', '.join(unknown)}", f"the names are {', '.join(JOBS)}")
    else:
        path = options.out / "zoo.json"
        existing = json.loads(path.read_text()) if path.exists() else {}
        names = [name for name in JOBS if name not in existing]
    overrides = {key: value for key in ("steps", "images") if (value := getattr(options, key)) is not None}
    return [replace(JOBS[name], seed=options.seed, **overrides) for name in names]


def report(name: str, step: int, loss: float) -> None:
    """Print the progress of one network."""
    print(f"  {name} step {step} loss {loss:.4f}", flush=True)


def line(name: str, entry: dict[str, object]) -> str:
    """The scores of a trained network."""
    score = f"loss {entry['loss']:.3f}, constant {entry['constant_loss']:.3f}, ratio {entry['ratio']:.3f}"
    if "accuracy" in entry:
        score += f", accuracy {entry['accuracy']:.3f}, constant {entry['constant_accuracy']:.3f}"
    return f"{name}: {score}, readout {entry['readout']:.3f}, {entry['steps']} steps, {entry['seconds']:.0f} s"


def table(folder: Path) -> str:
    """Markdown tables of the networks in a folder's zoo.json, in the order of `JOBS`, and of the task definitions."""
    entries = json.loads((folder / "zoo.json").read_text())
    rows = [
        "| name | task | group | architecture | input | trained on | score | constant | ratio | steps | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in (*[n for n in JOBS if n in entries], *[n for n in entries if n not in JOBS]):
        e = entries[name]
        score, constant = (
            (f"{e['accuracy']:.1%} right", f"{e['constant_accuracy']:.1%} right")
            if "accuracy" in e
            else (f"{e['loss']:.3f}", f"{e['constant_loss']:.3f}")
        )
        rows.append(
            f"| `{name}` | {e['task']} | {e['group']} | {e['architecture']} | {e['input_size']} | {e['world']} "
            f"| {score} | {constant} | {e['ratio']:.2f} | {e['steps']} | {e['seconds']:.0f} |"
        )
    rows += ["", "| task | group | output | label |", "|---|---|---|---|"]
    for name, task in {**TASKS, **FACE_TASKS}.items():
        shape = {
            "dense": "S/2 x S/2 x {}",
            "vector": "{} values",
            "class": "{} classes",
            "class_map": "S/2 x S/2, {} classes",
        }
        corruption = f" Input: {' '.join((task.corrupt.__doc__ or '').split())}" if task.corrupt else ""
        label = f"{task.definition}{corruption}".replace("|", r"\|")
        rows.append(f"| `{name}` | {task.group} | {shape[task.kind].format(task.outputs)} | {label} |")
    return "\n".join(rows)


BEGIN, END = "<!-- generated by scripts/train_zoo.py --docs from zoo.json -->", "<!-- end of the generated part -->"


def with_table(page: str, folder: Path) -> str:
    """A page with the part between the marks regenerated."""
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n\n{table(folder)}\n\n{page[after:]}"


def main(words: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(words)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        if options.table:
            print(table(options.out))
            return 0
        if options.docs:
            page = ROOT / "docs" / "lab-book" / "zoo.md"
            page.write_text(with_table(page.read_text(), options.out))
            return 0
        for job in jobs(options):
            entry = training.run(
                job,
                options.cache,
                options.out,
                options.device,
                options.held_out,
                options.every,
                functools.partial(report, job.name),
            )
            print(line(job.name, entry), flush=True)
    except ModelspaceError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
