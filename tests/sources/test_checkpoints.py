"""Which state dict of a checkpoint is loaded: the rules, and when the user has to choose."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelspace import ModelSpace, sources
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.sources import WeightsFile
from modelspace.sources.checkpoints import AVERAGED, NESTED, PASSED_OVER, PREFIXES, RULES, WRAPPERS
from modelspace.sources.weights import LoadedWeights, load_weights, read_state

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "load-models.md"


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3), flat=nn.Flatten(), fc=nn.Linear(8, 4)))


RAW: dict[str, Any] = dict(net().state_dict())
EMA: dict[str, Any] = {name: value + 1 for name, value in RAW.items()}
FLAT_EMA = {f"model_ema.{name.replace('.', '')}": value for name, value in EMA.items()}
SHADOW = {"decay": 0.99, "shadow_params": list(EMA.values())}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(4, 8)}}, "param_groups": [{"lr": 0.1}]}


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def loaded(folder: Path, value: Any, key: str | None = None, module: nn.Module | None = None) -> LoadedWeights:
    """Saves a checkpoint, loads it, and sees that all of RAW or all of EMA arrived."""
    torch.save(value, folder / "w.pth")
    module = module or net()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    taken = load_weights(module, WeightsFile(str(folder / "w.pth"), key))
    state = {name.removeprefix("module."): value for name, value in module.state_dict().items()}
    expected = EMA if torch.equal(state["fc.weight"], EMA["fc.weight"]) else RAW
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    taken.tags["is"] = "ema" if expected is EMA else "raw"
    return taken


def refused(folder: Path, value: Any, key: str | None = None) -> ModelspaceError:
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.save(value, folder / "w.pth")
    with pytest.raises(ModelspaceError) as caught:
        load_weights(module, WeightsFile(str(folder / "w.pth"), key))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    return caught.value


TAKEN = {
    "a state dict": (RAW, "raw", None),
    "PyTorch's tutorial": ({"epoch": 1, "model_state_dict": RAW, "loss": torch.tensor(0.3)}, "raw", "model_state_dict"),
    "an optimizer beside it": ({"state_dict": RAW, "optimizer": OPTIMIZER, "lr": 0.1}, "raw", "state_dict"),
    "options beside it": ({"model": RAW, "args": argparse.Namespace(lr=1), "best": np.float64(3)}, "raw", "model"),
    "averaged weights alone": ({"model_ema": under("module.", EMA), "epoch": 3}, "ema", "model_ema"),
    "a teacher alone": ({"teacher": under("backbone.", EMA)}, "ema", "teacher"),
    "swa_utils.AveragedModel": ({"n_averaged": torch.tensor(3), **under("module.", EMA)}, "ema", "module"),
    "Lightning": ({"state_dict": {**under("model.", RAW), "loss.w": torch.ones(3)}}, "raw", "state_dict.model"),
    "a backbone with a head": ({**under("backbone.", RAW), "head.weight": torch.ones(2, 2)}, "raw", "backbone"),
    "two nests": ({"model": {"state_dict": {"net": RAW}}}, "raw", "model.state_dict.net"),
    "torch.compile": (under("_orig_mod.", RAW), "raw", None),
    "wrappers of wrappers": (under("module._orig_mod.model.", RAW), "raw", None),
    "numbers beside it": ({**RAW, "epoch": 3, "arch": "net"}, "raw", None),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_the_rules_take(case: str, tmp_path: Path) -> None:
    value, which, key = TAKEN[case]
    taken = loaded(tmp_path, value)
    assert taken.tags == {"weights": str(tmp_path / "w.pth"), "is": which} | ({"weights_key": key} if key else {})
    assert ("weights_key" in " ".join(taken.notes)) == (key is not None)
    # What the tag says can be asked for, and is the same again.
    if key is not None:
        assert loaded(tmp_path, value, key).tags == taken.tags


def test_wrappers_inside_names(tmp_path: Path) -> None:
    state = {name.replace("fc.", "fc.module.").replace("conv.", "conv._orig_mod."): v for name, v in RAW.items()}
    assert loaded(tmp_path, state).tags["is"] == "raw"


def test_a_module_inside_a_wrapper_is_the_one_that_is_loaded_into(tmp_path: Path) -> None:
    assert loaded(tmp_path, RAW, module=nn.DataParallel(net())).tags["is"] == "raw"
    assert loaded(tmp_path, under("module.", RAW), module=nn.DataParallel(net())).tags["is"] == "raw"


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    assert loaded(tmp_path, TAKEN["a backbone with a head"][0]).notes == (
        "the weights are those under `weights_key='backbone'` in w.pth",
        "1 other entry of w.pth left out: head.weight",
    )
    assert loaded(tmp_path, TAKEN["numbers beside it"][0]).notes == ("2 other entries of w.pth left out: epoch, arch",)


ASKED = {
    "timm": ({"state_dict": RAW, "state_dict_ema": EMA}, ["state_dict", "state_dict_ema"]),
    "torchvision's references": ({"model": RAW, "model_ema": under("module.", EMA)}, ["model", "model_ema"]),
    "BasicSR": ({"params": RAW, "params_ema": EMA}, ["params", "params_ema"]),
    "MMCV": (
        {"state_dict": RAW, "ema_state_dict": {"steps": torch.tensor(1), **under("module.", EMA)}},
        ["state_dict", "ema_state_dict.module"],
    ),
    "a nest in an average": ({"model": RAW, "ema": {"decay": 0.9, "model": EMA}}, ["model", "ema.model"]),
    "DINO": (
        {"student": under("module.backbone.", RAW), "teacher": under("backbone.", EMA)},
        ["student", "teacher"],
    ),
    "a teacher in one state dict": ({**under("student.", RAW), **under("teacher.", EMA)}, ["student", "teacher"]),
    "MoCo": (
        under("module.", {**under("encoder_q.", RAW), **under("encoder_k.", EMA), "queue": torch.zeros(2)}),
        ["module.encoder_q", "module.encoder_k"],
    ),
    "two nests": ({"model": RAW, "initial": EMA}, ["model", "initial"]),
}


@pytest.mark.parametrize("case", ASKED)
def test_several_are_asked_for(case: str, tmp_path: Path) -> None:
    value, keys = ASKED[case]
    error = refused(tmp_path, value)
    assert error.message == f"{tmp_path / 'w.pth'} has several state dicts: {', '.join(keys)}"
    for key, which in zip(keys, ("raw", "ema"), strict=True):
        assert f"`weights_key={key!r}`" in error.hint
        taken = loaded(tmp_path, value, key)
        assert (taken.tags["is"], taken.tags["weights_key"]) == (which, key)


def test_averaged_weights_that_have_other_names_are_asked_about_too(tmp_path: Path) -> None:
    for value, key in (
        ({"model": RAW, "ema": SHADOW}, "model"),
        ({"state_dict": {**under("model.", RAW), **FLAT_EMA}}, "state_dict.model"),
    ):
        error = refused(tmp_path, value)
        assert "has several state dicts" in error.message
        assert error.hint.startswith(f"say which with `weights_key={key!r}`; what lies under ")
        assert loaded(tmp_path, value, key).tags["is"] == "raw"
    # One number is no set of weights.
    assert loaded(tmp_path, {"model": RAW, "ema": {"decay": torch.tensor(0.9)}}).tags["is"] == "raw"


def test_keys_and_prefixes_that_no_rule_covers_are_offered(tmp_path: Path) -> None:
    for value, key in (
        ({"G": RAW, "D": {"w": torch.ones(2)}}, "G"),
        (under("mine.", RAW), "mine"),
        ({"a": {"b.c": RAW}}, "a.b.c"),
    ):
        error = refused(tmp_path, value)
        assert error.message.endswith(f"holds a state dict that fits under {key!r}, which no rule covers")
        assert error.hint == f"if that is the one, say so with `weights_key={key!r}`"
        assert loaded(tmp_path, value, key).tags["weights_key"] == key


def test_a_key_that_leads_nowhere(tmp_path: Path) -> None:
    error = refused(tmp_path, {"model": RAW, "ema": EMA}, "modle")
    assert isinstance(error, NotFoundError)
    assert error.message == f"nothing lies under `weights_key='modle'` in {tmp_path / 'w.pth'}"
    assert error.hint == "did you mean model?"
    assert "has" in refused(tmp_path, {"model": RAW}, "x").hint
    assert "is a int, not a state dict" in refused(tmp_path, {"model": RAW, "epoch": 3}, "epoch").message
    assert "under 'ema'" in refused(tmp_path, {"model": RAW, "ema": SHADOW}, "ema").message


def test_state_of_training_programs_is_not_looked_into(tmp_path: Path) -> None:
    for key in ("optimizer", "opt_state", "lr_scheduler", "callbacks", "loss_weights"):
        error = refused(tmp_path, {key: RAW})
        assert "no state dict was found" in error.message
        assert loaded(tmp_path, {"model": RAW, key: EMA}).tags["is"] == "raw"


def test_without_a_module_the_keys_decide(tmp_path: Path) -> None:
    def read(value: Any, key: str | None = None) -> Any:
        torch.save(value, tmp_path / "w.pth")
        return read_state(WeightsFile(str(tmp_path / "w.pth"), key))[0]

    assert read({"model": RAW, "optimizer": OPTIMIZER, "loss": torch.tensor(1.0)}).keys() == RAW.keys()
    assert read({**RAW, "epoch": 1}).keys() == RAW.keys()
    assert torch.equal(read({"model": RAW, "ema": EMA}, "ema")["fc.weight"], EMA["fc.weight"])
    for value in ({"model": RAW, "ema": EMA}, {**RAW, "ema": EMA}):
        with pytest.raises(ModelspaceError, match="several state dicts"):
            read(value)
    with pytest.raises(ModelspaceError, match="no state dict"):
        read({"G": RAW})


# --- from an address


FACTORY = """
from collections import OrderedDict
from torch import nn

def make():
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1),
                                     flat=nn.Flatten(), fc=nn.Linear(8, 4)))
"""
INPUT = {"input_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.wide
def test_the_key_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FACTORY)
    torch.save({"state_dict": RAW, "state_dict_ema": EMA}, tmp_path / "w.pth")
    space = ModelSpace.create(tmp_path / "home", images=4, canvas=16)
    uri = "python:net.py:make"
    with pytest.raises(ModelspaceError, match="several state dicts"):
        space.add(uri, weights="w.pth", preprocessing=INPUT)
    for key in ("state_dict", "state_dict_ema"):
        added = space.add(uri, name=key, weights="w.pth", weights_key=key, preprocessing=INPUT)
        assert added.card.tags["weights_key"] == key
        assert f"the weights are those under `weights_key={key!r}` in w.pth" in added.notes
    assert space.show("state_dict").weights_sha256 != space.show("state_dict_ema").weights_sha256
    found = space.nearest(uri, weights="w.pth", weights_key="state_dict_ema", preprocessing=INPUT)
    assert "this model is registered as state_dict_ema, so no pass was needed" in found.notes
    picture = space.gallery(["state_dict_ema"], layers=["conv"], weights="w.pth", images=[0])
    assert picture.facts["layers"] == ["conv"]
    entry = {"model": uri, "weights": "w.pth", **INPUT}
    again = space.add_all([{**entry, "name": "state_dict_ema", "weights_key": "state_dict_ema"}])
    assert [outcome.status for outcome in again] == ["unchanged"]
    other = space.add_all([{**entry, "name": "state_dict_ema", "weights_key": "state_dict"}])
    assert [outcome.status for outcome in other] == ["failed"]
    assert "other weights" in other[0].message


def test_a_key_without_a_file_and_a_file_without_an_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names a part of a file of weights") as caught:
        sources.load("zoo:edge2d", weights_key="ema")
    assert caught.value.hint == "add it: `weights=file`"
    space = ModelSpace.create(tmp_path, images=4, canvas=16)
    with pytest.raises(UsageError, match="is for the address of a model"):
        space.add(net(), name="a", weights="w.pth", preprocessing=INPUT)


# --- the documentation


def test_the_rules_are_documented_word_for_word() -> None:
    page = DOCS.read_text("utf-8")
    for case, rule in RULES:
        assert f"| {case} | " in page, case
        assert rule.partition(",")[0].partition(";")[0].split(" ")[0] in page
    for words in (NESTED, AVERAGED, PASSED_OVER, WRAPPERS, PREFIXES):
        for word in words:
            assert f"`{word}`" in page, word
