"""docs/reference/attribution.md: its example runs, and its table has the methods and defaults of the code."""

import re
from pathlib import Path

import torch
from attribution_nets import Residual, images

from modelspace.attribution import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "attribution.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    torch.manual_seed(0)
    names = {"model": Residual(), "x": images(3, dtype=torch.float32)}
    exec(compile(code, "docs/reference/attribution.md", "exec"), names)
    assert names["result"].maps["epsilon_lrp"].shape == (3, 3, 8, 8)


def test_the_table_has_every_method_and_default() -> None:
    rows = {row[0]: row for row in (re.findall(r"^\| `(\w+)` \|(.*)$", PAGE, re.MULTILINE))}
    assert set(rows) == set(METHODS)
    for name, info in METHODS.items():
        row = rows[name][1].split("|")[-2]
        for parameter, default in info.defaults.items():
            assert f"`{parameter}`" in row, (name, parameter)
            if isinstance(default, float) and default == 1e-4:
                assert "1e-4" in row
            elif parameter not in ("base", "seed"):
                assert re.search(rf"`{parameter}` (\w+ )?{re.escape(str(default))}", row), (name, parameter)
