"""`file:` addresses: nothing runs without the user's trust, and the loaded model is the exported one."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from cli_support import fake_line
from exported_nets import METHODS, STATED, assert_same_maps, footprint, images, make, maps, sha256, write
from tiny import space
from torch import nn

from modelspace import sources
from modelspace.attribution.engine import attribute, frozen
from modelspace.attribution.ledger import ledger
from modelspace.encoder.layers import executed_layers, find_encoder_output
from modelspace.errors import EmbeddingError, ModelspaceError, NotFoundError, UsageError
from modelspace.sources import file as file_source
from modelspace.sources.base import LoadedModel, flags_of
from modelspace.sources.torchscript import ScriptNet
from modelspace.sources.trust import read_once

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

KINDS = ("export", "dynamic", "trace", "script")


def load(path: Path, **options: object) -> LoadedModel:
    return sources.load(f"file:{path}", trusted=sha256(path), preprocessing=flags_of(options or None))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual net in every format, with metadata."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in (*KINDS, "frozen"):
        write(make("residual"), kind, folder / f"{kind}.bin")
    write(make("residual"), "export", folder / "pairs.bin", batch=2)
    return folder


# ---- trust


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", ["export", "trace"])
def test_without_the_users_word_nothing_is_loaded(shelf, kind, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the file was loaded")

    monkeypatch.setattr(torch.export, "load", never)
    monkeypatch.setattr(file_source, "load_script", never)
    path = shelf / f"{kind}.bin"
    with pytest.raises(UsageError) as caught:
        sources.load(f"file:{path}")
    assert "can run its author's code" in caught.value.message
    assert sha256(path) in caught.value.message
    assert caught.value.hint.endswith(f"`space.add('file:{path}', trust_code='{sha256(path)}')`")
    other = "0" * 64
    with pytest.raises(ModelspaceError) as caught:
        sources.load(f"file:{path}", trusted=other)
    assert other in caught.value.message
    assert sha256(path) in caught.value.message
    with pytest.raises(UsageError, match="is not a SHA-256"):
        sources.load(f"file:{path}", trusted=sha256(path)[:16])


def test_the_word_for_another_file_does_not_count(shelf):
    with pytest.raises(ModelspaceError, match="is not the trusted file"):
        sources.load(f"file:{shelf / 'export.bin'}", trusted=sha256(shelf / "trace.bin"))


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", ["export", "trace"])
def test_a_file_that_is_exchanged_after_the_check_is_not_loaded(tmp_path, monkeypatch, kind):
    path = write(make("residual"), kind, tmp_path / "net.bin")
    trusted, check = sha256(path), file_source.require_trust

    def exchange(*arguments):
        check(*arguments)
        write(make("dense"), kind, path)

    monkeypatch.setattr(file_source, "require_trust", exchange)
    loaded = sources.load(f"file:{path}", trusted=trusted)
    assert loaded.weights_sha256 == sources.weights_sha256(make("residual"))
    assert loaded.tags["file_sha256"] == trusted != sha256(path)


def test_what_was_trusted_is_recorded_in_any_spelling(shelf):
    path = shelf / "export.bin"
    loaded = sources.load(f"file:{path}", trusted=f" sha256:{sha256(path).upper()} ")
    assert loaded.tags == {"file_sha256": sha256(path), "trusted_code": sha256(path)}


def test_other_sources_have_no_use_for_trust():
    with pytest.raises(UsageError, match="`trust_code=` does not apply to zoo: addresses") as caught:
        sources.load("zoo:depth", trusted="0" * 64)
    assert "file:" in caught.value.hint


def test_the_option_reaches_the_library(monkeypatch, tmp_path):
    line = fake_line(monkeypatch, tmp_path)
    for command in ("add", "nearest", "layers"):
        result = line(command, "file:net.pt2", "--trust-code", "ab" * 32)
        assert result.exit_code == 0, result.output
        assert line.calls[-1][2]["trust_code"] == "ab" * 32
    result = line("add", "zoo:depth")
    assert "trust_code" not in line.calls[-1][2]


# ---- what is refused


def test_weights_and_modules_are_sent_elsewhere(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "state.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("state.pt", "whole.pt", "old.pt"):
        with pytest.raises(ModelspaceError, match=r"torch\.save") as caught:
            sources.load(f"file:{tmp_path / name}", trusted=sha256(tmp_path / name))
        assert "`space.add('python:nets.py:make', weights=" in caught.value.hint


def test_broken_and_foreign_files(tmp_path, shelf):
    with pytest.raises(NotFoundError, match="there is no file") as caught:
        sources.load(f"file:{shelf / 'exprot.bin'}")
    assert "did you mean export.bin" in caught.value.hint
    with pytest.raises(UsageError, match="is a folder"):
        sources.load(f"file:{shelf}")
    exported = (shelf / "export.bin").read_bytes()
    contents = {"empty": b"", "text": b"hello", "short": exported[: len(exported) // 2]}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.txt", "a")
    for name, content in {**contents, "zip": archive.getvalue()}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelspaceError) as caught:
            load(tmp_path / name)
        assert "torch.export.save (.pt2) and torch.jit.save (.pt)" in caught.value.hint
    (tmp_path / "lfs").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelspaceError, match="is a Git LFS pointer"):
        load(tmp_path / "lfs")


@pytest.mark.parametrize("kind", ["export", "script"])
def test_a_damaged_archive_is_reported_in_two_lines(shelf, tmp_path, kind):
    with zipfile.ZipFile(shelf / f"{kind}.bin") as source, zipfile.ZipFile(tmp_path / "bad", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[: len(content) // 2] if name.endswith((".json", ".py")) else content)
    with pytest.raises(ModelspaceError, match="can't be loaded as") as caught:
        load(tmp_path / "bad")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_weights_beside_a_program_are_refused(shelf):
    with pytest.raises(UsageError, match="has its own weights"):
        sources.load(f"file:{shelf / 'export.bin'}", weights="w.safetensors", trusted="0" * 64)


@pytest.mark.parametrize("kind", ["export", "trace"])
def test_a_model_that_was_saved_in_training_mode_is_refused(tmp_path, kind):
    path = write(make("residual").train(), kind, tmp_path / "net.bin")
    with pytest.raises(ModelspaceError, match=r"in training mode: (batch_norm|dropout) is active") as caught:
        load(path)
    assert caught.value.hint == "save it again after model.eval()"


def test_a_program_with_two_inputs_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    torch.export.save(torch.export.export(Two(), (images(1), images(1))), tmp_path / "two.pt2")
    with pytest.raises(ModelspaceError, match="takes 2 inputs"):
        load(tmp_path / "two.pt2", **STATED)


# ---- preprocessing and metadata of the archive


def test_nothing_is_guessed(tmp_path):
    traced = write(make("residual"), "trace", tmp_path / "trace.bin", described=False)
    with pytest.raises(UsageError, match=r"the input size, mean and std of .* are not given"):
        load(traced)
    exported = write(make("residual"), "export", tmp_path / "export.bin", described=False)
    with pytest.raises(UsageError, match=r"the mean and std of .* are not given"):
        load(exported)  # the input size of the program is fixed
    assert load(exported, mean=[0.5] * 3, std=[0.5] * 3).preprocessing.input_size == (16, 16)


@pytest.mark.first(2)
@pytest.mark.parametrize("kind", [*KINDS, "frozen"])
def test_the_archive_describes_itself(shelf, kind):
    loaded = load(shelf / f"{kind}.bin")
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert (loaded.task, loaded.data) == ("shapes", "drawn")
    assert (loaded.suggested_name, loaded.architecture) == (kind, "Residual")
    assert load(shelf / f"{kind}.bin", mean=[0.25] * 3).preprocessing.mean == (0.25, 0.25, 0.25)


@pytest.mark.first(2)
@pytest.mark.parametrize("text", ["{", "[]", '{"colour": 1}', '{"task": 3}', '{"preprocessing": [1]}'])
def test_a_wrong_description_is_refused(tmp_path, text):
    script = torch.jit.trace(make("residual"), images(1))
    torch.jit.save(script, str(tmp_path / "net"), _extra_files={"modelspace.json": text})
    with pytest.raises(ModelspaceError, match=r"modelspace\.json in") as caught:
        load(tmp_path / "net")
    assert "modelspace.sources.file.metadata" in caught.value.hint


def test_another_input_size_than_the_recorded_one_is_refused(shelf):
    with pytest.raises(UsageError, match="takes inputs of 1x3x16x16, not of anyx3x32x32") as caught:
        load(shelf / "export.bin", input_size=32)
    assert "`preprocessing={'input_size': 16}`" in caught.value.hint
    with pytest.raises(UsageError, match="not of anyx1x16x16"):
        load(shelf / "export.bin", channels="gray", mean=[0.5], std=[0.5])


# ---- the same model


@pytest.mark.first(1)
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["residual", "gated", "attention", "dense", "decoder", "shuffled"])
@pytest.mark.parametrize("kind", ["export", "trace"])
def test_maps_equal_those_of_the_model_before_the_export(tmp_path, name, kind):
    model, x = make(name), images()
    loaded = load(write(model, kind, tmp_path / "net.bin"))
    tap = find_encoder_output(loaded.module, x[:2])
    assert tap.layer == find_encoder_output(model, x[:2]).layer
    assert loaded.weights_sha256 == sources.weights_sha256(model)
    assert_same_maps(
        maps(loaded.module, x), maps(model, x), 1e-4
    )  # rounding changes a map where the input of a ReLU is close to 0
    assert_same_maps(maps(loaded.module.double(), x.double()), maps(model.double(), x.double()), 1e-10)
    assert ledger(tap, x.double()).residual < 1e-9


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", ["dynamic", "script"])
@pytest.mark.parametrize("name", ["residual", "gated"])
def test_other_ways_of_exporting(tmp_path, name, kind):
    model, x = make(name), images()
    loaded = load(write(model, kind, tmp_path / "net.bin", batch=2))
    assert getattr(loaded.module, "modelspace_batch", None) is None
    assert_same_maps(maps(loaded.module, x), maps(model, x))


@pytest.mark.first(1)
@pytest.mark.parametrize(("name", "batch"), [("export", 1), ("pairs", 2)])
def test_a_program_for_one_size_of_batch_is_fed_in_such_batches(shelf, name, batch):
    loaded, model, x = load(shelf / f"{name}.bin"), make("residual"), images(5)
    assert loaded.module.modelspace_batch == batch
    assert_same_maps(maps(loaded.module, x), maps(model, x))
    tap = find_encoder_output(loaded.module, x[:2], "blocks.0")
    assert (tap.layer, tap.calls) == ("blocks.0", 1)
    with frozen(model), frozen(tap.module), torch.no_grad():
        assert torch.allclose(tap(x), find_encoder_output(model, x[:2], "blocks.0")(x), atol=1e-6)


@pytest.mark.first(2)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_have_the_names_of_the_original(shelf, kind):
    rows = executed_layers(load(shelf / f"{kind}.bin").module, images(2))
    expected = executed_layers(make("residual"), images(2))
    assert [(row.name, row.shape, row.calls) for row in rows] == [(row.name, row.shape, row.calls) for row in expected]
    assert [row.kind for row in rows[:-1]] == [row.kind for row in expected[:-1]]


@pytest.mark.first(1)
@pytest.mark.parametrize("kind", [*KINDS, "frozen", "pairs"])
def test_the_model_comes_back_bit_for_bit(shelf, kind):
    module = load(shelf / f"{kind}.bin").module
    before = footprint(module)
    maps(module, images())
    with pytest.raises(EmbeddingError), frozen(module):
        find_encoder_output(module, images(2)[:, :2])
    assert footprint(module) == before


def test_a_plain_exported_module_comes_back_bit_for_bit():
    module = torch.export.export(make("residual"), (images(3),)).module()
    before = footprint(module)
    tap = find_encoder_output(module, images(3))
    with frozen(module):
        attribute(tap, images(3), METHODS)
    assert footprint(module) == before


@pytest.mark.wide
def test_a_frozen_archive_has_weights_and_a_fingerprint_but_no_layers(shelf, tmp_path):
    loaded = load(shelf / "frozen.bin")
    assert loaded.parameters > 500
    assert find_encoder_output(loaded.module, images(2)).layer == "output"
    assert_same_maps(maps(loaded.module, images()), maps(make("residual"), images(), "output"))
    other = make("residual")
    nn.init.ones_(other.fc.bias)
    assert load(write(other, "frozen", tmp_path / "o")).weights_sha256 != loaded.weights_sha256


def test_code_that_cant_be_interpreted_runs_in_torch(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.count = 0

        def forward(self, x):
            self.count = self.count + 1  # sets an attribute
            return torch.relu(self.conv(x))

    torch.jit.save(torch.jit.script(Odd().eval()), str(tmp_path / "odd"))
    loaded = load(tmp_path / "odd", **STATED)
    assert isinstance(loaded.module, torch.jit.ScriptModule)
    assert not isinstance(loaded.module, ScriptNet)
    tap = find_encoder_output(loaded.module, images(2))
    assert tap.layer == "output"
    attribute(tap, images(), ["saliency", "gradient_x_input"])
    with pytest.raises(EmbeddingError, match=r"scripted or traced model \(TorchScript\)"):
        attribute(tap, images(), ["epsilon_lrp"])


def test_loops_lists_and_dictionaries_of_scripted_code(tmp_path):
    class Loops(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])
            self.scale = 0.5

        def scaled(self, x, times: int):
            for _ in range(times):
                x = x * self.scale
            return x

        def forward(self, x):
            outputs: list[torch.Tensor] = []
            for conv in self.convs:
                x = torch.tanh(conv(x))
                outputs.append(x)
            size = x.shape[-1]
            while size > 4:
                x = torch.nn.functional.max_pool2d(x, 2)
                size = size // 2
            total = torch.cat([part.mean((2, 3)) for part in outputs] + [x.flatten(1)], dim=1)
            return {"features": self.scaled(total, 2), "logits": total.softmax(-1)}

    Loops.forward.__annotations__["return"] = dict[str, torch.Tensor]
    model = Loops().eval()
    torch.jit.save(torch.jit.script(model), str(tmp_path / "net"))
    loaded = load(tmp_path / "net", **STATED)
    assert isinstance(loaded.module, ScriptNet)
    x = images()
    with torch.no_grad():
        for key, value in model(x).items():
            assert torch.allclose(loaded.module(x)[key], value, atol=1e-6)


@pytest.mark.wide
def test_the_registry_records_what_was_trusted(shelf, tmp_path):
    home = space(tmp_path)
    path = shelf / "pairs.bin"
    with pytest.raises(UsageError, match="can run its author's code"):
        home.add(f"file:{path}", name="exported")
    assert len(home.list()) == 0
    home.add(f"file:{path}", name="exported", trust_code=sha256(path))
    home.add(make("residual"), name="original", preprocessing=STATED)
    assert home.show("exported").tags["trusted_code"] == sha256(path)
    assert home.show("exported").tags["file_sha256"] == sha256(path)
    for row in home.spaces():
        assert home.nearest("original", space=row.name)[0].affinity == pytest.approx(1, abs=1e-5)
    neighbours = home.nearest(f"file:{path}", trust_code=sha256(path))
    assert any("registered as" in note for note in neighbours.notes)
    rows, layer, _ = home.layers(f"file:{path}", trust_code=sha256(path))
    assert (layer, rows[0].name) == ("fc:in", "stem")


def test_a_module_of_ones_own_may_take_one_size_of_batch():
    class Pairs(nn.Module):
        modelspace_batch = 2

        def __init__(self, flat: bool) -> None:
            super().__init__()
            self.conv, self.flat = nn.Conv2d(3, 4, 3), flat

        def forward(self, x):
            y = self.conv(x.reshape(2, 3, 16, 16)).relu()
            return y.flatten(0, 1) if self.flat else y

    torch.manual_seed(0)
    x, module = images(5), Pairs(False)
    tap = find_encoder_output(module, x[:3])
    assert torch.allclose(tap(x), module.conv(x).relu(), atol=1e-6)
    assert [row.calls for row in executed_layers(module, x[:3])] == [1, 1]
    with pytest.raises(EmbeddingError, match="its first axis is not the batch"):
        find_encoder_output(Pairs(True), x[:3], "output")(x)


@pytest.mark.wide
def test_in_place_changes_of_a_view_are_followed_in_an_exported_program(tmp_path):
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            y[:, :2].tanh_()
            return y

    torch.manual_seed(0)
    model, x = Halves().eval(), images(2)
    expected = maps(model, x)
    for kind in ("export", "trace"):
        loaded = load(write(model, kind, tmp_path / kind))
        assert_same_maps(maps(loaded.module, x), expected)


def test_a_file_is_read_in_no_more_memory_than_it_has_bytes(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"no program")
    code = """
        import resource, sys
        from modelspace.sources.trust import read_once
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        print(read_once(sys.argv[1], "a program").content)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "net.pt2")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "b'no program'"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "net.onnx").open("wb") as out:
        out.truncate((2 << 30) + 1)
    with pytest.raises(ModelspaceError, match=r"net\.onnx is larger than 2 GB"):
        read_once(str(tmp_path / "net.onnx"), "an ONNX file", 2 << 30)
