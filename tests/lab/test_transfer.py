"""Measured transfer: batched readouts compared with readouts trained separately, and runs that may be killed."""

import csv
import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.errors import ConflictError, NotFoundError, UsageError
from modelspace.evaluation import load
from modelspace.lab import ahp, training, transfer
from modelspace.lab.tasks import TASKS, Task, task
from modelspace.lab.transfer import Budget, Readouts, Scenes
from modelspace.worlds import yards

TINY = Budget(pool=24, images=16, held_out=10, epochs=2, batch=4, hidden=6, channels=5)
KINDS = ("rgb2sfnorm", "reshade", "segmentsemantic", "class_1000", "room_layout")


def random_label(target: Task, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    grid = (32, 32) if target.kind in ("dense", "class_map") else ()
    if target.classifies:
        return torch.randint(target.outputs, (n, *grid), generator=generator)
    return torch.randn((n, target.outputs, *grid), generator=generator)


def unpack(target: Task, out: Tensor) -> Tensor:
    """The inverse of `pack`: (N, 64, 16 n) to (N, n, 32, 32)."""
    if target.kind not in ("dense", "class_map"):
        return out
    return F.pixel_shuffle(out.transpose(1, 2).reshape(len(out), -1, 8, 8), 4)


@pytest.mark.parametrize("name", KINDS)
def test_image_losses_are_the_tasks_own(name: str) -> None:
    target = task(name)
    label = random_label(target, 6)
    packed = transfer.pack(target, label)
    shape = (6, 64, 16 * target.outputs) if target.kind in ("dense", "class_map") else (6, target.outputs)
    out = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    losses = transfer._image_losses(target, out[None], packed[None])[0]
    for k in range(6):
        expected = target.loss(unpack(target, out[k : k + 1]), label[k : k + 1])
        assert float(losses[k]) == pytest.approx(float(expected), rel=1e-5)


def test_a_packed_dense_label_unpacks() -> None:
    label = random_label(task("rgb2sfnorm"), 3)
    assert torch.equal(unpack(task("rgb2sfnorm"), transfer.pack(task("rgb2sfnorm"), label)), label)
    with pytest.raises(UsageError, match="side 16"):
        transfer.pack(task("reshade"), torch.zeros(1, 1, 16, 16))


class SingleReadout(nn.Module):
    """One readout as ordinary layers, float64."""

    def __init__(self, target: Task, seed: int, channels: int, hidden: int) -> None:
        super().__init__()
        readouts = Readouts([target], [seed], 9 * channels, hidden)
        self.target = target
        self.first = nn.Conv2d(channels, hidden, 3)
        self.first.weight.data = readouts.first[0].T.reshape(hidden, channels, 3, 3).contiguous()
        self.dense = target.kind in ("dense", "class_map")
        weight = readouts.second[0][0].T.contiguous()
        self.second = nn.Conv2d(hidden, len(weight), 1) if self.dense else nn.Linear(weight.shape[1], len(weight))
        self.second.weight.data = weight.view_as(self.second.weight)
        for layer in (self.first, self.second):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(F.pad(x, (1, 1, 1, 1), mode="replicate")))
        if self.dense:
            return F.pixel_shuffle(self.second(x), 4)
        # Quadrants first, channels last: the input order of the readout's second layer.
        return self.second(F.adaptive_avg_pool2d(x, 2).flatten(2).transpose(1, 2).flatten(1))


@pytest.mark.wide
def test_batched_training_equals_separate_training() -> None:
    channels, seeds = 3, [0, 5]
    generator = torch.Generator().manual_seed(3)
    features, test_features = (
        torch.randn(24, channels, 8, 8, generator=generator),
        torch.randn(7, channels, 8, 8, generator=generator),
    )

    def unfolded(x: Tensor) -> Tensor:
        return F.unfold(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3).transpose(1, 2).contiguous()

    tasks = [task(name) for name in KINDS]
    labels = {t.name: random_label(t, 24, 1) for t in tasks}
    test_labels = {t.name: random_label(t, 7, 2) for t in tasks}
    readouts = Readouts(tasks, seeds, 9 * channels, TINY.hidden)
    readouts.fit(unfolded(features), {t.name: transfer.pack(t, labels[t.name]) for t in tasks}, TINY)
    losses = readouts.losses(
        unfolded(test_features), {t.name: transfer.pack(t, test_labels[t.name]) for t in tasks}, batch=4
    )
    for target, (row, seed) in itertools.product(tasks, enumerate(seeds)):
        single = SingleReadout(target, seed, channels, TINY.hidden)
        optimiser = torch.optim.AdamW(single.parameters(), lr=TINY.rate, weight_decay=0.01)
        order = Readouts._order(seed, 24, TINY)
        warm = max(1, len(order) // 10)
        for step, batch in enumerate(order):
            progress = max(0.0, (step - warm) / max(1, len(order) - warm))
            for group in optimiser.param_groups:
                group["lr"] = TINY.rate * min(1, (step + 1) / warm) * (1 + math.cos(math.pi * progress)) / 2
            label = labels[target.name][batch]
            optimiser.zero_grad()
            target.loss(single(features[batch].double()), label if target.classifies else label.double()).backward()
            optimiser.step()
        for k in range(7):
            label = test_labels[target.name][k : k + 1]
            with torch.no_grad():
                out = single(test_features[k : k + 1].double())
            expected = target.loss(out, label if target.classifies else label.double())
            assert losses[target.name][row, k] == pytest.approx(float(expected), rel=2e-3), (target.name, seed, k)


def test_each_seed_draws_different_images_without_repeats() -> None:
    orders = [torch.cat(Readouts._order(seed, 24, TINY)) for seed in (0, 1)]
    for order in orders:
        epochs = order.view(TINY.epochs, TINY.images)
        assert all(len(set(epoch.tolist())) == TINY.images for epoch in epochs)
        assert set(epochs[0].tolist()) == set(epochs[1].tolist())
        assert epochs[0].tolist() != epochs[1].tolist()
    assert set(orders[0].tolist()) != set(orders[1].tolist())


def test_patches_by_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    pool, held_out = torch.randn(9, 4, 8, 8, generator=generator) * 3 + 1, torch.randn(5, 4, 8, 8, generator=generator)
    pool[:, 2], held_out[:, 2] = 0.7, 0.7
    x, y = transfer.patches(pool, held_out, channels=8)
    assert x.shape == (9, 64, 9 * 6)
    assert y.shape == (5, 64, 9 * 6)
    index = (2, 3, 5)  # image, row, column
    patch = y[index[0], index[1] * 8 + index[2]].view(6, 3, 3)
    for channel in (0, 1, 3):
        mean, std = pool[:, channel].double().mean(), pool[:, channel].double().std()
        expected = (held_out[index[0], channel, 2:5, 4:7] - mean) / std
        assert torch.allclose(patch[channel], expected.float(), atol=1e-5)
    assert (patch[2] == 0).all()
    assert patch[4, 1].tolist() == pytest.approx([-1 + 2 * c / 7 for c in (4, 5, 6)])
    assert patch[5, :, 1].tolist() == pytest.approx([-1 + 2 * r / 7 for r in (2, 3, 4)])


def test_many_channels_become_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    pool = torch.einsum(
        "kc,nkhw->nchw", torch.randn(2, 9, generator=generator), torch.randn(30, 2, 8, 8, generator=generator)
    )
    x, _ = transfer.patches(pool, pool[:2], channels=2)
    components = x.view(30, 64, 4, 9)[:, :, :2, 4].flatten(0, 1).double()
    flat = pool.transpose(1, 3).transpose(1, 2).flatten(0, 2).double()
    assert torch.allclose(components.T @ components / len(components), torch.eye(2, dtype=torch.float64), atol=1e-2)
    # Two components explain all of a pool of rank two.
    centred = flat - flat.mean(0)
    fitted = components @ torch.linalg.lstsq(components, centred).solution
    assert torch.allclose(fitted, centred, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 8, 8), (3, 16, 16), (5, 4, 4), (6, 11, 9), (9,)])
def test_any_output_is_resampled_to_the_grid(shape: tuple[int, ...]) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            assert x.shape[-1] == 48
            return torch.ones(len(x), *shape) * x.mean((1, 2, 3)).view(-1, *[1] * len(shape))

    rgb = torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module = Fixed().train()
    output = transfer.encode(module, task("denoise"), rgb, 48, batch=2)
    assert output.shape == (5, shape[0], 8, 8)
    assert module.training
    assert torch.equal(output, transfer.encode(module, task("denoise"), rgb, 48, batch=2))
    assert not torch.allclose(output, transfer.encode(module, task("reshade"), rgb, 48), atol=1e-4)


def test_an_output_without_a_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="no grid"):
        transfer.encode(nn.Flatten(1, 2), task("reshade"), torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 64)


@pytest.mark.long
def test_better_features_give_smaller_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(256, (90, 3, 8, 8), dtype=torch.uint8, generator=generator).float()
    rgb = F.interpolate(rgb, (64, 64), mode="nearest").to(torch.uint8)
    label = transfer.pack(task("autoencoder"), F.avg_pool2d(rgb.float() / 255 - 0.5, 2) / 0.29)
    pool, held_out = Scenes(rgb[:60], {"autoencoder": label[:60]}), Scenes(rgb[60:], {"autoencoder": label[60:]})
    budget = Budget(pool=60, images=48, held_out=30, epochs=30, batch=8, hidden=16, rate=0.02)
    loss = {}
    for name, encoder in {"sees": nn.AvgPool2d(8), "gray": nn.Sequential(nn.AvgPool2d(8), Gray())}.items():
        losses = transfer.measure(encoder, 64, pool, held_out, ["autoencoder"], [0], budget)["autoencoder", 0]
        assert losses.shape == (30,)
        loss[name] = losses.mean()
    assert loss["sees"] < 0.3 < loss["gray"]


class Gray(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)


@pytest.mark.wide
def test_readouts_do_not_depend_on_each_other() -> None:
    rgb = torch.randint(256, (34, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = ("reshade", "denoise", "class_places", "segmentsemantic")
    labels = {name: transfer.pack(task(name), random_label(task(name), 34)) for name in names}
    pool = Scenes(rgb[:24], {name: label[:24] for name, label in labels.items()})
    held_out = Scenes(rgb[24:], {name: label[24:] for name, label in labels.items()})
    encoder = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 4, 1))
    together = transfer.measure(encoder, 64, pool, held_out, names, [0, 1, 2], TINY)
    assert set(together) == set(itertools.product(names, [0, 1, 2]))
    for name in names:
        single = transfer.measure(encoder, 64, pool, held_out, [name], [2], TINY)
        assert np.allclose(single[name, 2], together[name, 2], rtol=1e-4, atol=1e-5)
        assert not np.allclose(together[name, 1], together[name, 2], rtol=1e-3)


def test_invalid_budgets_are_refused() -> None:
    with pytest.raises(UsageError, match="batch <= images <= pool"):
        Budget(pool=10, images=20)


# ---- the script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "measure_transfer.py"
    spec = importlib.util.spec_from_file_location("measure_transfer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_transfer", module)
    spec.loader.exec_module(module)
    return module


class FakeZoo:
    """Three encoders of eight channels, with the zoo's three functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: list[str] = []
        for name in self.names():
            (folder / f"{name}.weights").write_text(name)

    def names(self) -> list[str]:
        return ["one", "three", "two"]

    def card(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            weights=self.folder / f"{name}.weights",
            preprocessing=SimpleNamespace(input_size=(64, 64)),
            layer="1:out",
        )

    def load(self, name: str) -> nn.Module:
        self.loaded.append(name)
        torch.manual_seed(len(name))
        return nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.LeakyReLU(), nn.AvgPool2d(2))


ARGUMENTS = ["--pool", "12", "--images", "8", "--held-out", "6", "--epochs", "1", "--batch", "4", "--hidden", "4"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the few rendered scenes of these tests."""
    cache = tmp_path_factory.mktemp("rendered")
    transfer.prepare(cache, Budget(pool=12, images=8, held_out=6, epochs=1, batch=4), ["reshade"])
    return cache


@pytest.fixture
def cache(tmp_path: Path, rendered: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "rooms").symlink_to(rendered / "rooms")
    return folder


@pytest.mark.wide
def test_scenes_are_scaled_by_the_pool_and_differ_from_the_zoos(rendered: Path) -> None:
    budget = Budget(pool=12, images=8, held_out=6, epochs=1, batch=4)
    pool, held_out = transfer.prepare(rendered, budget, ["rgb2sfnorm", "class_places", "denoise"])
    assert pool.rgb.shape == (12, 3, 64, 64)
    assert held_out.rgb.shape == (6, 3, 64, 64)
    flat = pool.labels["rgb2sfnorm"].view(12, 64, 3, 16).transpose(1, 2).transpose(0, 1).flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(3), atol=1e-4)
    assert torch.allclose(flat.std(1), torch.ones(3), atol=1e-3)
    assert pool.labels["class_places"].dtype == torch.int64
    # The zoo trains on scenes from 0 and is scored on scenes from 1,000,000.
    assert 1_500_000 < transfer.FIRST_TRAIN < transfer.FIRST_HELD_OUT - 100_000


def test_a_run_is_resumed_and_not_repeated(
    script: ModuleType, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = FakeZoo(tmp_path)
    monkeypatch.setattr(script, "zoo", zoo)
    words = [*ARGUMENTS, "--cache", str(cache), "--targets", "reshade,class_places,denoise"]
    script.run(script.parse([*words, "--sources", "one,two", "--seeds", "2"]))
    assert "12 readouts to do" in capsys.readouterr().out
    first = (cache / "transfer.csv").read_text()
    assert zoo.loaded == ["one", "two"]

    # Killed in the middle of a line: the cut row is measured again, the others are kept.
    (cache / "transfer.csv").write_text(first[:-5])
    zoo.loaded.clear()
    script.run(script.parse([*words, "--seeds", "2"]))
    assert zoo.loaded == ["three", "two"]
    rows = list(csv.DictReader((cache / "transfer.csv").open()))
    assert len({(r["source"], r["target"], r["seed"]) for r in rows}) == len(rows) == 18
    before = {r["source"] + r["target"] + r["seed"]: float(r["loss"]) for r in csv.DictReader(first.splitlines())}
    for r in rows:
        if r["source"] in ("one", "two"):
            assert float(r["loss"]) == pytest.approx(before[r["source"] + r["target"] + r["seed"]], rel=1e-4)

    # Nothing is missing: nothing is loaded.
    zoo.loaded.clear()
    out = tmp_path / "tables"
    script.run(script.parse([*words, "--seeds", "2", "--out", str(out)]))
    assert zoo.loaded == []
    assert "popularity" in capsys.readouterr().out

    # The tables are an oracle, and its affinities are Taskonomy's normalisation of the images' losses.
    oracle = load(out / "rooms_transfer.csv")
    assert oracle.seed_losses is not None
    assert oracle.seed_losses.shape == (2, 3, 3)
    images = script.Ledger(cache).images("one", script.stamps(["one"])["one"])
    assert images["reshade/1"].mean() == pytest.approx(oracle.seed_losses[1, 0, 0], rel=1e-5)
    stamps = script.stamps(zoo.names())
    games = [
        np.concatenate([script.Ledger(cache).images(name, stamps[name])[f"reshade/{seed}"] for seed in (0, 1)])
        for name in zoo.names()
    ]
    table = load(out / "rooms_affinity.csv", column="affinity")
    assert table.score[0] == pytest.approx(ahp.affinities(ahp.win_matrix(games)), rel=1e-4)

    # Other weights under the same name are measured again.
    (tmp_path / "one.weights").write_text("retrained")
    zoo.loaded.clear()
    script.run(script.parse([*words, "--seeds", "2"]))
    assert zoo.loaded == ["one"]

    # Another budget is never mixed in, nor another world.
    for other in (["--rate", "0.1"], ["--world", "yards"]):
        with pytest.raises(ConflictError, match="another budget or in another world"):
            script.run(script.parse([*words, *other]))


@pytest.mark.wide
def test_the_other_world_is_measured_apart(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "zoo", FakeZoo(tmp_path))
    words = [*ARGUMENTS, "--world", "yards", "--targets", "reshade,class_places,denoise", "--seeds", "1"]
    cache = tmp_path / "cache"
    script.run(script.parse([*words, "--cache", str(cache), "--constants"]))
    printed = capsys.readouterr().out
    assert sorted(path.name for path in cache.glob("*.csv")) == [
        "transfer.csv", "yards_affinity.csv", "yards_transfer.csv",
    ]  # fmt: skip
    # The scenes are yards that nothing was trained on.
    pool, held_out = transfer.prepare(
        cache, Budget(pool=12, images=8, held_out=6, epochs=1, batch=4), ["class_places"], world="yards"
    )
    drawn = yards.sample_scenes(transfer.FIRST_TRAIN, 12, training.WORLD)
    assert pool.labels["class_places"].tolist() == [scene.place for scene in drawn]
    assert torch.equal(pool.rgb, (yards.render(drawn, 64).rgb * 255 + 0.5).floor().to(torch.uint8))
    # What a constant prediction loses: the entropy against the pool's shares, each class seen once more than it was.
    places = pool.labels["class_places"].tolist()
    shares = [(places.count(k) + 1) / (12 + 6) for k in range(6)]
    expected = -sum(math.log(shares[k]) for k in held_out.labels["class_places"].tolist()) / 6
    assert transfer.constant_losses(pool, held_out)["class_places"] == pytest.approx(expected)
    losses = load(cache / "yards_transfer.csv")
    row = losses.targets.index("class_places")
    assert losses.loss is not None
    assert f"| {losses.loss[row].min():.3f} | {expected:.3f} |" in printed
    with pytest.raises(UsageError, match="transfer can't be measured in 'faces'"):
        transfer.prepare(cache, TINY, ["reshade"], world="faces")


def test_each_world_has_its_own_cache(script: ModuleType) -> None:
    assert script.parse([]).cache.name == "transfer"
    assert script.parse(["--world", "yards"]).cache.name == "transfer-yards"
    assert script.parse(["--world", "streets"]).cache.name == "transfer-streets"


def test_the_tasks_networks_are_measured_first_and_alone_on_request(script: ModuleType, tmp_path: Path) -> None:
    weights = {"vgg16_objects": "a", "reshade": "b", "colorization_2": "c", "edge2d": "d"}
    work = script.missing([("reshade", "edge2d", 0)], weights, ["edge2d", "reshade"], [0])
    assert [(item.source, item.targets) for item in work] == [
        ("reshade", ("reshade",)), ("edge2d", ("edge2d", "reshade")),
        ("vgg16_objects", ("edge2d", "reshade")), ("colorization_2", ("edge2d", "reshade")),
    ]  # fmt: skip
    # Without that network the word fails like the 20 names.
    words = ["--sources", "tasks", "--cache", str(tmp_path / "cache")]
    script.zoo, zoo = SimpleNamespace(names=lambda: [name for name in TASKS if name != "edge2d"]), script.zoo
    with pytest.raises(NotFoundError, match="there is no network edge2d"):
        script.run(script.parse(words))
    script.zoo = zoo


def test_agreement_of_seeds_without_any_ranking(
    script: ModuleType, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.agreement(load("yards")) == (
        "3 seeds, 20 sources: P@5 0.92, Spearman 0.97, Kendall 0.90, Spearman of their mean 0.99; "
        "least for room_layout 0.86, vanishing_point 0.88, class_1000 0.96"
    )
    monkeypatch.setattr(script, "zoo", FakeZoo(tmp_path))
    words = [*ARGUMENTS, "--cache", str(cache), "--targets", "reshade,class_places", "--seeds", "2", "--no-baselines"]
    script.run(script.parse(words))
    printed = capsys.readouterr().out
    assert "2 seeds, 3 sources: P@3 1.00, Spearman" in printed
    assert "popularity" not in printed
    script.run(script.parse(words[:-1]))
    assert "popularity" in capsys.readouterr().out
    words[words.index("--seeds") + 1] = "1"
    script.run(script.parse(words))
    assert "one seed: no reliability" in capsys.readouterr().out


def test_the_settings_of_the_rooms_ledger_stay_as_they_were(script: ModuleType, tmp_path: Path) -> None:
    script.Ledger(tmp_path).open(Budget(), "rooms")
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert set(kept) == {"budget", "renderer"}
    assert kept["renderer"] == 1


def test_missing_work_is_grouped_by_source_and_seeds(script: ModuleType) -> None:
    done = [("a", "x", 0), ("a", "x", 1), ("a", "y", 0), ("b", "x", 1)]
    work = script.missing(done, {"a": "1", "b": "2"}, ["x", "y"], [0, 1])
    assert [(w.source, w.targets, w.seeds) for w in work] == [
        ("a", ("y",), (1,)),
        ("b", ("x",), (0,)),
        ("b", ("y",), (0, 1)),
    ]


def test_unknown_names_are_refused(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "zoo", FakeZoo(tmp_path))
    with pytest.raises(NotFoundError, match="no network four"):
        script.run(script.parse(["--sources", "one,four", "--cache", str(tmp_path)]))
    with pytest.raises(NotFoundError, match="no target colorization"):
        script.run(script.parse(["--targets", "colorization", "--cache", str(tmp_path)]))


def test_targets_are_those_of_the_published_table() -> None:
    assert set(transfer.TARGETS) == set(load("taskonomy").targets)
    assert set(TASKS) == set(load("taskonomy").sources)
