"""Check the eight claims of Song et al. (NeurIPS 2019) on the zoo, and write docs/lab-book/reproduction.md.

    python scripts/reproduce.py [--only 3,5] [--quick] [--docs DIR] [--cache DIR]

Passes and finished sections are cached in .cache/reproduce: a killed run continues, and with --only the other sections
are read from there. --quick uses few models and images, which only tests that the script runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from reproduction import passes
from reproduction.beyond import beyond
from reproduction.cost import cost
from reproduction.data import Data
from reproduction.drawing import png
from reproduction.page import Section, page
from reproduction.ranking import bad_case, bits, methods, probe_sets
from reproduction.structure import clusters, depth, trees

SECTIONS: Mapping[int, Callable[[Data], Section]] = {
    1: methods,
    2: probe_sets,
    3: bits,
    4: depth,
    5: clusters,
    6: trees,
    7: bad_case,
    8: cost,
    9: beyond,
}
NAME = "reproduction"


def run(docs: Path, numbers: list[int], scale: passes.Scale) -> None:
    """Compute these sections, write their pictures, and the page if all sections exist."""
    torch.set_num_threads(1)
    data = Data(scale)
    folder = passes.CACHE / ("sections" if scale is passes.FULL else "sections-quick")
    folder.mkdir(parents=True, exist_ok=True)
    (docs / NAME).mkdir(parents=True, exist_ok=True)
    if scale is passes.FULL:
        for _ in passes.all_of(scale):
            pass
    for number in numbers:
        passes.USED.clear()
        existing = set(folder.parent.rglob("*.npz"))
        start = time.process_time()
        section = SECTIONS[number](data)
        for name, (_, picture) in section.pictures.items():
            content = png(picture)
            (docs / NAME / name).write_bytes(content)
            print(f"{name}: {len(content) / 1000:.0f} kB")
        in_passes = sum(seconds for path, seconds in passes.USED.items() if path not in existing)
        section.seconds = time.process_time() - start - in_passes
        entry = {
            "summary": section.summary(),
            "text": section.to_markdown(),
            "seconds": section.seconds,
            "passes": {path.name: seconds for path, seconds in passes.USED.items()},
        }
        (folder / f"{number}.json").write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
        print(
            f"{number}. {section.title}: {section.verdict.word}, {section.seconds:.0f} s\n   "
            f"{section.verdict.sentence}",
            flush=True,
        )
    files = {number: folder / f"{number}.json" for number in SECTIONS}
    if missing := [str(number) for number, file in files.items() if not file.is_file()]:
        print(f"the page is not written: sections {', '.join(missing)} are missing")
        return
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in files.values()]
    pass_seconds: dict[str, float] = {}
    for entry in entries:
        pass_seconds |= entry["passes"]
    text = page(
        [entry["summary"] for entry in entries],
        [entry["text"] for entry in entries],
        sum(entry["seconds"] for entry in entries),
        sum(pass_seconds.values()),
    )
    (docs / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(docs / f"{NAME}.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sections to compute, for example 3,5; default: all")
    parser.add_argument("--quick", action="store_true", help="few models and images")
    parser.add_argument(
        "--docs", type=Path, default=passes.TOP / "docs" / "lab-book", help="folder for the page and the pictures"
    )
    parser.add_argument("--cache", type=Path, default=passes.CACHE, help="folder for passes and finished sections")
    options = parser.parse_args()
    numbers = sorted({int(number) for number in options.only.split(",")}) if options.only else list(SECTIONS)
    if unknown := [number for number in numbers if number not in SECTIONS]:
        sys.exit(f"there is no section {unknown[0]}; there are 1 to {max(SECTIONS)}")
    passes.CACHE = options.cache
    run(options.docs, numbers, passes.QUICK if options.quick else passes.FULL)


if __name__ == "__main__":
    main()
