"""docs/reference/attribution.md: its example runs, and its table has the methods and defaults of the code."""

import re
from pathlib import Path

import torch
from attribution_nets import Residual, images
from typer.testing import CliRunner

from modelspace import ModelSpace
from modelspace.attribution import METHODS
from modelspace.cli.app import app, load

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


def test_the_patent_notice_stands_wherever_lrp_is_chosen(tmp_path: Path) -> None:
    """On the page, in the table of methods, in --help, and on standard error when a space of it is created."""
    notice = METHODS["epsilon_lrp"].notice
    assert "patented" in notice
    assert {name for name, info in METHODS.items() if info.notice} == {"epsilon_lrp", "attn_lrp"}
    section = " ".join(PAGE.split("## Patent notice for LRP")[1].partition("\n## ")[0].split())
    assert "patented technology that may be used free of charge for personal and scientific purposes only" in section
    (method,) = [param for param in load("init").params if param.name == "method"]
    assert "LRP (epsilon_lrp, attn_lrp) is patented" in method.help
    for name, said in (("epsilon_lrp", True), ("attn_lrp", True), ("saliency", False)):
        done = CliRunner().invoke(app, ["init", "--home", str(tmp_path / name), "--method", name, "--images", "12"])
        assert done.exit_code == 0
        assert (notice in done.stderr) is said


def test_lrp_is_computed_only_where_it_is_asked_for(tmp_path: Path) -> None:
    space = ModelSpace.create(tmp_path, images=12)
    assert {info.name: info.method for info in space.spaces()} == {
        "gradient_x_input": "gradient_x_input", "dds": "dds", "local": "local", "transfer": "blend",
    }  # fmt: skip
