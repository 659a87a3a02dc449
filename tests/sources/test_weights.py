"""Files of weights: which are read, and with which messages others are refused."""

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.sources.weights import load_weights


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def trained():
    torch.manual_seed(1)
    module = net()
    with torch.no_grad():
        for entry in module.state_dict().values():
            entry.copy_(torch.rand(entry.shape) * 9)
    return module


def equal(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def refused(path, module=None, error=ModelspaceError):
    with pytest.raises(error) as caught:
        load_weights(module if module is not None else net(), str(path))
    return caught.value


def test_safetensors(trained, tmp_path):
    # The suffix is wrong on purpose: the format is detected from the content.
    save_file(trained.state_dict(), tmp_path / "w.bin")
    module = net()
    load_weights(module, str(tmp_path / "w.bin"))
    assert equal(module, trained)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_saved_by_torch(trained, tmp_path, zipped):
    torch.save(trained.state_dict(), tmp_path / "w.safetensors", _use_new_zipfile_serialization=zipped)
    module = net()
    load_weights(module, str(tmp_path / "w.safetensors"))
    assert equal(module, trained)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_state_dict_inside_a_checkpoint_and_names_with_prefixes(trained, tmp_path, wrapper, prefix):
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save({"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}}, tmp_path / "w.pt")
    module = net()
    load_weights(module, str(tmp_path / "w.pt"))
    assert equal(module, trained)


def test_prefixes_of_a_state_dict_with_metadata(trained, tmp_path):
    torch.save(nn.DataParallel(trained).state_dict(), tmp_path / "w.pt")
    module = net()
    load_weights(module, str(tmp_path / "w.pt"))
    assert equal(module, trained)


def test_a_prefix_that_belongs_to_the_module_is_kept(trained, tmp_path):
    wrapped = nn.ModuleDict({"module": trained})
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    module = nn.ModuleDict({"module": net()})
    load_weights(module, str(tmp_path / "w.pt"))
    assert equal(module, wrapped)


def test_types_are_converted(trained, tmp_path):
    save_file({key: value.to(torch.bfloat16) for key, value in trained.state_dict().items()}, tmp_path / "w.st")
    module = net()
    load_weights(module, str(tmp_path / "w.st"))
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, trained[0].weight.bfloat16().float())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight


def test_a_shared_weight_may_be_stored_once(tmp_path):
    save_model(Tied(), tmp_path / "w.safetensors")
    module = Tied()
    load_weights(module, str(tmp_path / "w.safetensors"))
    untied = nn.ModuleDict({"embed": nn.Linear(3, 3, bias=False), "head": nn.Linear(3, 3, bias=False)})
    assert "lack 1 of its weights" in refused(tmp_path / "w.safetensors", untied).message


def test_counters_of_batch_norm_may_be_absent_as_in_old_checkpoints(trained, tmp_path):
    state = {key: value for key, value in trained.state_dict().items() if "num_batches" not in key}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(net(), str(tmp_path / "w.safetensors"))


def test_missing_and_unknown_names_are_listed(trained, tmp_path):
    state = {key.replace("2.", "head.").replace("1.", "norm."): value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    error = refused(tmp_path / "w.pt")
    assert error.message == (
        f"the weights in {tmp_path / 'w.pt'} don't fit Sequential: they lack 6 of its weights (1.weight, 1.bias, "
        "1.running_mean, ...) and have 7 unknown to it (norm.weight, norm.bias, norm.running_mean, ...)"
    )


def test_shapes_that_differ_are_named_and_nothing_is_copied(trained, tmp_path):
    state = trained.state_dict()
    state["2.weight"], state["2.bias"] = torch.zeros(7, 4), torch.zeros(7)
    torch.save(state, tmp_path / "w.pt")
    module = net()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    error = refused(tmp_path / "w.pt", module)
    assert error.message.endswith(
        "2.weight is 7x4 in the file and 2x4 in the module; 2.bias is 7 in the file and 2 in the module"
    )
    assert "number of classes" in error.hint
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_an_entry_that_is_no_tensor(trained, tmp_path):
    torch.save({**trained.state_dict(), "2.bias": 3}, tmp_path / "w.pt")
    assert "the entry 2.bias in" in refused(tmp_path / "w.pt").message


def test_a_missing_file_and_a_folder(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    error = refused(tmp_path / "weight.safetensors", error=NotFoundError)
    assert error.message.endswith("does not exist")
    assert error.hint == "did you mean weights.safetensors?"
    assert refused(tmp_path, error=NotFoundError).message.endswith("is a folder, not a file of weights")
    assert refused(tmp_path / "no" / "such", error=NotFoundError).hint == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no weights"),
        (b"<html>404</html>", "it is neither safetensors nor a state dict saved by torch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        (b"PK\x03\x04 and nothing more", "can't be read: BadZipFile"),
        (b"\x80\x02zzzz", "can't be read as weights: UnpicklingError: Unsupported operand 122"),
        ((9).to_bytes(8, "little") + b"{not json" + b" " * 9, "can't be read as safetensors"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, content, words):
    (tmp_path / "w").write_bytes(content)
    assert words in refused(tmp_path / "w").message


def test_a_truncated_file_of_each_kind(trained, tmp_path):
    save_file(trained.state_dict(), tmp_path / "a")
    torch.save(trained.state_dict(), tmp_path / "b")
    torch.save(trained.state_dict(), tmp_path / "c", _use_new_zipfile_serialization=False)
    for name in "abc":
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        error = refused(tmp_path / name)
        assert "can't be read" in error.message
        assert error.hint in ("it may be truncated", "it may be damaged or truncated")


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_needs_code_is_refused_and_not_run(tmp_path, zipped):
    evil = Evil()
    evil.path = str(tmp_path / "was run")
    torch.save({"w": evil}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    error = refused(tmp_path / "w.pt")
    assert "to be loaded, and only tensors are read" in error.message
    assert "mkdir" in error.message
    assert "safetensors.torch.save_file" in error.hint
    assert "weights_only" not in str(error)
    assert not (tmp_path / "was run").exists()


def test_a_bare_pickle_and_a_whole_module_are_refused(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": [1.0]}))
    refused(tmp_path / "w.pkl")
    torch.save(net(), tmp_path / "w.pt")
    assert "needs code (torch.nn.modules.container.Sequential)" in refused(tmp_path / "w.pt").message


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_code_and_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "w.pt")
    assert "is a TorchScript archive, which runs code" in refused(tmp_path / "w.pt").message


def test_another_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip archive, but not a state dict" in refused(tmp_path / "w.zip").message


def rewritten(source, target, compression=zipfile.ZIP_STORED, change=lambda name, data: data):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_an_archive_that_memory_mapping_would_misread_is_refused(tmp_path):
    """torch.load(mmap=True) reads values at an entry's offset without checking its size or compression."""
    torch.save({"weight": torch.ones(64, 64), "bias": torch.ones(64)}, tmp_path / "good.pt")
    rewritten(tmp_path / "good.pt", tmp_path / "packed.pt", zipfile.ZIP_DEFLATED)
    assert "has compressed entries such as good/data.pkl" in refused(tmp_path / "packed.pt", nn.Linear(64, 64)).message
    short = tmp_path / "short.pt"
    rewritten(tmp_path / "good.pt", short, change=lambda name, data: data[:9000] if "/data/" in name else data)
    with zipfile.ZipFile(short, "a") as archive:
        archive.writestr("good/more", bytes(20_000))
    assert "is damaged: a tensor of 16,384 bytes has no entry of that size" in refused(short, nn.Linear(64, 64)).message


def test_several_state_dicts_and_none(tmp_path, trained):
    torch.save({"model": trained.state_dict(), "net": trained.state_dict()}, tmp_path / "two.pt")
    assert "has several state dicts: model, net" in refused(tmp_path / "two.pt").message
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "none.pt")
    assert "but a dict with epoch, lr" in refused(tmp_path / "none.pt").message
    torch.save([1, 2], tmp_path / "list.pt")
    assert "but a list" in refused(tmp_path / "list.pt").message


@pytest.mark.wide
def test_a_small_file_that_claims_a_billion_elements_is_refused_without_setting_memory_aside(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(10**9), "bias": torch.zeros(2)}, tmp_path / "bomb.pt")
    assert (tmp_path / "bomb.pt").stat().st_size < 4000
    code = f"""
        import resource, torch
        from modelspace.errors import ModelspaceError
        from modelspace.sources.weights import load_weights
        for module in (torch.nn.Linear(2, 2), torch.nn.LazyLinear(2)):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                load_weights(module, {str(tmp_path / "bomb.pt")!r})
            except ModelspaceError as error:
                print(error.message)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for message, kilobytes in zip(lines[::2], lines[1::2], strict=True):
        assert "bomb.pt is refused: weight claims 1,000,000,000 elements, and the file has 1," in message
        assert int(kilobytes) < 100_000


def test_an_expanded_tensor_of_the_modules_own_size_is_fine(tmp_path):
    torch.save({"weight": torch.ones(1).expand(2, 2), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    module = nn.Linear(2, 2)
    load_weights(module, str(tmp_path / "w.pt"))
    assert torch.equal(module.weight, torch.ones(2, 2))


class Picky(nn.Linear):
    def _load_from_state_dict(self, *arguments):
        raise ValueError("I only take my own\nand more")


def test_a_module_that_refuses_its_weights_is_reported(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "w")
    assert refused(tmp_path / "w", Picky(2, 2)).message.endswith(
        "can't be loaded into Picky: ValueError: I only take my own"
    )


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_containers_that_hold_each_other_over_and_over_are_refused_at_once(tmp_path, kind):
    inner = torch.zeros(2)
    for _ in range(8):
        inner = {str(i): inner for i in range(100)} if kind == "dict" else [inner] * 100
    torch.save({"model": inner}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 20_000
    assert "is refused: 1e+16 paths lead to its 801 entries" in refused(tmp_path / "w.pt").message


def test_a_container_that_is_shared_a_few_times_is_fine(trained, tmp_path):
    history = {"loss": [float(i) for i in range(1000)]}
    torch.save({"model": trained.state_dict(), "epochs": [history] * 100, "last": history}, tmp_path / "w.pt")
    module = net()
    load_weights(module, str(tmp_path / "w.pt"))
    assert equal(module, trained)
