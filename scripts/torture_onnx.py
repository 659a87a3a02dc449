"""Whether ONNX operators compute what they should in thousands of settings that are drawn at random.

    python scripts/torture_onnx.py [--settings 3000] [--first 0]

Each setting is one node, converted as a file's is and compared with onnx's reference evaluator, or with a slow definition where
the reference is known to be wrong (tests/support/onnx_settings.py has the list and the reasons). Prints every difference with the
number that draws it again (`--first NUMBER --settings 1`); the exit code is 1 if there is one. 3,000 settings take half a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))


def main() -> int:
    """Draw, compare, print."""
    from onnx_settings import outcome

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=3000, help="how many are drawn")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    for number in range(arguments.first, arguments.first + arguments.settings):
        result = outcome(number)
        is_known = result in ("equal", "refused", "left out")
        counts[result if is_known else "different"] += 1
        if not is_known:
            print(result)
    print(", ".join(f"{count:,} {name}" for name, count in counts.most_common()))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
