"""Benchmark registering real networks: what loading, the checks and the pass cost, as multiples of a plain pass.

The unit is one forward pass and the gradient of ΣT with respect to the input, per image, of the same network in the
same run: what saliency needs at least. Loading includes the comparison of an ONNX file with its reference; the search
is that for the encoder output. The networks are those of `scripts/check_real.py`, by default the three slowest; their
packages must be installed (`make real`). Times are processor time.

    OMP_NUM_THREADS=1 python scripts/bench_real.py [--images N] [--rounds R] [--only TEXT]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from check_real import CASES, Case

from modelspace.attribution.engine import encoder_output, gradient_of, ready
from modelspace.embedding.checks import check_model
from modelspace.embedding.embed import embed
from modelspace.embedding.prepare import Prepared, Request, load, prepared
from modelspace.probes.preprocess import to_input
from modelspace.sources.base import flags_of
from modelspace.spaces.kinds import KernelSpace, space_of
from modelspace.types import SpaceSpec
from modelspace.worlds.rooms import render_rgb8

SLOWEST = ("captcha-slider", "ddddocr-det", "rapidocr-rec")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of a call, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def plain(ready_model: Prepared, x: torch.Tensor) -> None:
    """The least work for a map."""
    with ready(ready_model.tap, x) as source:
        output = encoder_output(ready_model.tap, source, graphical=True)
        gradient_of(output, source, torch.ones_like(output))


def line(case: Case, n_images: int, rounds: int) -> str:
    """A row of the table for one network."""
    images = render_rgb8(0, n_images, 0, 128)
    spaces = [
        SpaceSpec("gradient_x_input", "0" * 16, "gradient_x_input", n_images, 64, 8),
        KernelSpace.define("dds", "dds", "0" * 16, n_images, 0, None, "sum"),
    ]
    loading, loaded = seconds(lambda: load(Request(case.uri, preprocessing=flags_of(case.preprocessing))))
    request = Request(loaded.module, "model", layer=loaded.layer, preprocessing=loaded.preprocessing)
    with ExitStack() as stack:
        search, model = seconds(lambda: stack.enter_context(prepared(request, images)))

        def run() -> None:
            embed(model.tap, model.card.preprocessing, [images], spaces, device=model.device, check=False)

        x = to_input(images, model.card.preprocessing, model.device)
        collectors = filter(None, (space_of(spec).collector() for spec in spaces))
        requests = [collector.request for collector in collectors if collector.request]
        checking, _ = seconds(lambda: check_model(model.tap, x[:2], requests))
        units, passes = [], []
        for _ in range(rounds):
            units.append(seconds(lambda: plain(model, x))[0] / n_images)
            passes.append(seconds(run)[0] / n_images)
    unit = statistics.median(units)
    ratios = [f"{value / unit:.1f}" for value in (loading, search, checking)]
    return f"| {case.name} | {1000 * unit:.0f} | {' | '.join(ratios)} | {statistics.median(passes) / unit:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, metavar="N", help="images of the pass, one batch; default: 4")
    parser.add_argument("--rounds", type=int, default=3, metavar="R", help="of unit and pass; default: 3")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name has this text, instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | unit, ms per image | loading | search | checks | pass, per image |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        if options.only in case.name if options.only else case.name in SLOWEST:
            print(line(case, options.images, options.rounds), flush=True)


if __name__ == "__main__":
    main()
