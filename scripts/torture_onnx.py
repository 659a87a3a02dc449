"""Whether ONNX operators compute what they should in thousands of settings that are drawn at random.

    python scripts/torture_onnx.py [--settings 5000] [--first 0] [--page]

Each setting is one node, converted like a node of a file and compared with onnx's reference evaluator as corrected by
`modelspace.sources.onnx.reference`; corrected operators are also compared with a slow definition. Prints every
difference with the number that reproduces it (`--first NUMBER --settings 1`); the exit code is 1 if there is one.
5,000 settings take a minute. --page writes docs/lab-book/support_operators.md: all operators, the number of settings in
which each was equal, and what is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

PAGE = ROOT / "docs" / "lab-book" / "support_operators.md"

#: What is refused, in a sentence that names the node, of operators that are supported.
REFUSED = {
    "AveragePool": "`auto_pad` SAME with dilations (onnx and onnxruntime differ); pads as large as the window",
    "BatchNormalization": "training mode",
    "Cast": "types without a gradient or a use in shapes: strings, complex, float8, 4-bit",
    "ConvInteger": "`auto_pad` SAME",
    "ConvTranspose": "an `output_shape`, or `auto_pad` SAME, larger than the window reaches "
    "(onnx and onnxruntime differ)",
    "DequantizeLinear": "blocks",
    "Dropout": "training mode",
    "GRU": "`clip`; sequences of different lengths",
    "GridSample": "cubic in three axes",
    "LSTM": "`clip`; `input_forget`; sequences of different lengths",
    "LpPool": "as AveragePool",
    "MaxPool": "the output of indices; as AveragePool",
    "QLinearConv": "`auto_pad` SAME",
    "QuantizeLinear": "blocks; types but int8, uint8 and int16",
    "RNN": "`clip`; sequences of different lengths",
    "Resize": "`tf_crop_and_resize` without a region",
    "ScatterElements": "reductions but `add`",
    "ScatterND": "reductions but `add`",
}

HEAD = """# ONNX operators

```
python scripts/torture_onnx.py --page
```

wrote this page. Each operator was drawn with random attributes, inputs and versions, as a model of one node, and
compared with onnx's reference evaluator, or with a slow definition of its own where the reference is wrong
([reference.py](../../modelspace/sources/onnx/reference.py) lists how). "Equal" is the number of settings that were;
none differed. An operator without a number is not drawn. `If` is supported with a constant condition, and `Constant`
always; an operator that is not in the table is refused by name and version when a file is loaded.

| operator | equal | refused |
|---|---|---|
"""


def compare(first: int, settings: int) -> tuple[Counter[str], Counter[str]]:
    """How many settings had which outcome, and how many of each operator were equal; differences are printed."""
    from onnx_settings import drawn, outcome

    counts: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for number in range(first, first + settings):
        result = outcome(number)
        is_known = result in ("equal", "refused", "left out")
        counts[result if is_known else "different"] += 1
        if result == "equal":
            equal[drawn(number).kind] += 1
        if not is_known:
            print(result, flush=True)
    return counts, equal


def page(equal: Counter[str]) -> str:
    """The page in Markdown."""
    from modelspace.sources.onnx.operators import OPERATORS

    lines = [f"| {name} | {equal[name] or ''} | {REFUSED.get(name, '')} |" for name in sorted(OPERATORS)]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=5000, help="how many are drawn")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--page", action="store_true", help="write docs/lab-book/support_operators.md")
    arguments = parser.parse_args()
    counts, equal = compare(arguments.first, arguments.settings)
    print(", ".join(f"{count:,} {name}" for name, count in counts.most_common()))
    if counts["different"]:
        return 1
    if arguments.page:
        PAGE.write_text(page(equal), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
