"""Every documented command line, and a folder in which they can be run: the files that the documentation names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

from modelspace import evaluation
from modelspace.cli.app import COMMANDS, app, load

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))))

#: Names that stand for a value, and one that exists.
PLACEHOLDERS = {
    "NAME...": "curvature denoise",
    "--set-default NAME": "--set-default saliency",
    "NAME": "curvature",
    "MODEL": "curvature",
    "URI": "zoo:curvature",
    "FILE": "evaluation.json",
    "/mnt/safe": "safe",
}

NETS = """
import torch


def net(width=8):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 7, 8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * width, 5),
    )
    net.modelspace_preprocessing = {"input_size": 64, "mean": [0.5] * 3, "std": [0.25] * 3}
    return net


resnet = resnet18 = large = net


def make_net():
    made = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2))
    parts = {"conv1": made[0], "relu": made[1], "conv3": made[2], "pool": torch.nn.AdaptiveAvgPool2d(2)}
    parts |= {"flat": torch.nn.Flatten(), "fc": torch.nn.Linear(16, 3)}
    net = torch.nn.Sequential()
    for name, part in parts.items():
        net.add_module(name, part)
    return net
"""

SPLIT = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Example(NamedTuple):
    """Command lines that belong together, run in order in one folder.

    Attributes:
        place: the file that they are in.
        lines: without prompts and comments.
    """

    place: str
    lines: tuple[str, ...]


def in_pages() -> Iterator[Example]:
    """Each code block with commands, and each command in the text, of README, CONTRIBUTING and docs."""
    for page in PAGES:
        if page == "docs/reference/cli.md":  # generated from the help texts
            continue
        text = (ROOT / page).read_text("utf-8")
        for _, block in SPLIT.findall(text):
            lines = [re.sub(r"^\$ ", "", line) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
            if commands := tuple(without_comment(line) for line in lines if is_command(line)):
                yield Example(page, commands)
        for inline in re.findall(r"`([^`]+)`", SPLIT.sub("", text)):
            if is_command(line := " ".join(inline.split())):
                yield Example(page, (line,))


def in_help() -> Iterator[Example]:
    """Each example of a help text."""
    for name in COMMANDS:
        command = load(name)
        for leaf in getattr(command, "commands", {"": command}).values():
            text = re.sub(r"\\\n\s*", "", leaf.epilog.partition("Examples:\n")[2])
            for line in text.strip().splitlines():
                yield Example(f"modelspace {name} --help", (line.strip(),))


def is_command(line: str) -> bool:
    """Whether a line runs modelspace."""
    return bool(re.match(r"(echo .* \| )?modelspace( |$)", line))


def without_comment(line: str) -> str:
    """The line without the comment at its end.

    >>> without_comment('modelspace sql "FROM x" --format csv   # a "#" follows')
    'modelspace sql "FROM x" --format csv'
    """
    return re.sub(r"\s+# .*$", "", line).strip()


def is_mention(line: str) -> bool:
    """Whether a line only names a command, which can't run without arguments.

    >>> is_mention("modelspace add"), is_mention("modelspace map"), is_mention("modelspace nearest curvature")
    (True, False, False)
    """
    _, *words = shlex.split(line)
    if not words or words[0] not in COMMANDS:
        return False
    command = load(words[0])
    if (below := getattr(command, "commands", None)) is not None and len(words) > 1:
        command, words = below.get(words[1], command), words[1:]
    if len(words) > 1:
        return False
    return words[0] in ("add", "nearest", "sql", "tag") or any(param.required for param in command.params)


def fill(folder: Path, shipped: Path) -> Path:
    """Write the files that the documentation names, and copies of the shipped registry; returns the working folder."""
    home = folder / "home"
    for registry in (home, folder / "colleague"):
        registry.mkdir(parents=True)
        shutil.copy(shipped / "registry.duckdb", registry)
        shutil.copytree(shipped / "index", registry / "index")
    for name in ("nets.py", "mymodels.py"):
        (home / name).write_text(NETS, "utf-8")
    _write_weights(home)
    _write_images(home)
    _write_tables(home)
    return home


def _write_weights(home: Path) -> None:
    module: dict[str, Any] = {}
    exec(NETS, module)
    torch.manual_seed(0)
    weights = module["net"]().state_dict()
    for name in ("resnet", "resnet18", "weights/resnet18", "moved/resnet18", "folder-with-an-index/part"):
        (home / name).parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(weights, str(home / f"{name}.safetensors"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "part.safetensors")}
    (home / "folder-with-an-index" / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    other = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": other}, home / "checkpoint.pth")


def _write_images(home: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in ("photos/a", "photos/b", "data/flowers/daisy", "data/flowers/tulip", "data/birds/a", "data/birds/b"):
        (home / folder).mkdir(parents=True)
        for number in range(20):
            image = generator.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(image).resize((32, 32)).save(home / folder / f"{number}.png")
    rows = [f"data/flowers/daisy/{number}.png,{number / 10}" for number in range(20)]
    (home / "ripeness.csv").write_text("\n".join(["path,label", *rows]) + "\n", "utf-8")


def _write_tables(home: Path) -> None:
    page = (ROOT / "docs/how-to/evaluate.md").read_text("utf-8")
    (measured,) = re.findall(r"```csv\n(target,source,.*?)```", page, re.DOTALL)
    (home / "measured.csv").write_text(measured, "utf-8")
    page = (ROOT / "docs/how-to/many-models.md").read_text("utf-8")
    (manifest,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    # Without the entry of an ecosystem that asks the network.
    (home / "mymodels.toml").write_text(re.sub(r'\[\[model\]\]\nuri = "timm:.*\n', "", manifest), "utf-8")
    oracle = evaluation.load("sfda-cnn")
    scores = [
        f"{target},{source},{oracle.score[i, j]}"
        for i, target in enumerate(oracle.targets)
        for j, source in enumerate(oracle.sources)
    ]
    (home / "scores.csv").write_text("\n".join(["target,source,score", *scores]) + "\n", "utf-8")
    (home / "results.csv").write_text("model,score,how\ncurvature,0.5,finetune\ndenoise,0.6,finetune\n", "utf-8")
    (home / "report.sql").write_text("FROM nearest('curvature', 3)", "utf-8")


def run(line: str, home: Path) -> tuple[int, str]:
    """Run a command line in this process, in the current folder; (exit code, what it printed).

    `> FILE` writes what is printed on stdout, and `echo TEXT |` gives the standard input.
    """
    typed = None
    if line.startswith("echo "):
        text, _, line = line.partition(" | ")
        typed = shlex.split(text)[1] + "\n"
    for placeholder, value in PLACEHOLDERS.items():
        line = re.sub(rf"(?<= ){re.escape(placeholder)}(?= |$)", value, line)
    _, *words = shlex.split(line)
    if words[:1] == ["remove"] or words[:2] == ["spaces", "remove"]:
        words.append("--yes")  # what is typed at the question
    target = None
    if ">" in words:
        words, target = words[: words.index(">")], words[-1]
    done = CliRunner().invoke(app, words, input=typed, env={"COLUMNS": "80", "MODELSPACE_HOME": None})
    if target is not None:
        (home / target).write_text(done.stdout, "utf-8")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output
