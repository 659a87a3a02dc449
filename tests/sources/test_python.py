"""`python:` addresses: factories in packages and files, and their errors."""

import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modelspace import sources
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.sources import PreprocessingFlags
from modelspace.types import Preprocessing

HEAD = """
from torch import nn
PREPROCESSING = {"input_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}

def finish(module):
    module.modelspace_preprocessing = PREPROCESSING
    return module
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, code: str, head: str = HEAD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + textwrap.dedent(code))


def refused(uri, error=ModelspaceError, **options):
    with pytest.raises(error) as caught:
        sources.load(uri, **options)
    return caught.value


MAKE = """
def make():
    return finish(nn.Conv2d(3, 2, 1)).train()
"""


def test_a_factory_in_a_file(here):
    write(here / "nets" / "small.py", MAKE)
    loaded = sources.load("python:./nets/small.py:make")
    assert (loaded.uri, loaded.suggested_name) == ("python:nets/small.py:make", "make")
    assert loaded.preprocessing == Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
    assert (loaded.architecture, loaded.parameters, loaded.tags) == ("Conv2d", 8, {})
    assert loaded.module.training
    absolute = sources.load(f"python:{here}/nets/small.py:make")
    assert absolute.uri == f"python:{here.as_posix()}/nets/small.py:make"


def test_a_factory_in_a_package_of_the_current_folder(here, monkeypatch):
    write(here / "my_nets_1" / "__init__.py", "")
    write(here / "my_nets_1" / "deep.py", MAKE + "\nclass Builder:\n    build = staticmethod(make)\n")
    before = list(sys.path)
    loaded = sources.load("python:my_nets_1.deep:make")
    assert (loaded.uri, loaded.suggested_name) == ("python:my_nets_1.deep:make", "make")
    assert sources.load("python:my_nets_1.deep:Builder.build").suggested_name == "build"
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "my_nets_1")
    monkeypatch.delitem(sys.modules, "my_nets_1.deep")


def test_the_current_folder_cant_stand_in_for_an_installed_package(here):
    write(here / "safetensors_not.py", MAKE)
    write(here / "colorsys.py", "def make():\n    raise SystemExit('the wrong one')\n")
    assert "colorsys has nothing called 'make'" in refused("python:colorsys:make", NotFoundError).message


def test_an_installed_class_is_a_factory_too():
    flags = PreprocessingFlags((4, 4), (0.0,) * 3, (1.0,) * 3)
    loaded = sources.load("python:torch.nn:Identity", preprocessing=flags)
    assert isinstance(loaded.module, nn.Identity)
    assert loaded.preprocessing == Preprocessing.raw((4, 4))


def test_incomplete_preprocessing(here):
    write(here / "net.py", "def make():\n    return nn.Conv2d(3, 2, 1)\n")
    error = refused("python:net.py:make", UsageError)
    assert error.message == "the input size, mean and std of python:net.py:make are not given"
    assert (
        "`preprocessing={'input_size': 224, 'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}`" in error.hint
    )


def test_weights_are_loaded_and_recorded(here):
    write(here / "net.py", MAKE)
    trained = nn.Conv2d(3, 2, 1)
    save_file(trained.state_dict(), here / "w.safetensors")
    loaded = sources.load("python:net.py:make", weights="w.safetensors")
    assert torch.equal(loaded.module.weight, trained.weight)
    assert (loaded.uri, loaded.tags) == ("python:net.py:make", {"weights": "w.safetensors"})
    assert loaded.weights_sha256 == sources.weights_sha256(trained)
    assert loaded.weights_sha256 != sources.load("python:net.py:make").weights_sha256


def test_untrained_models_are_the_same_each_time_and_torch_is_left_as_it_was(here):
    write(
        here / "net.py",
        """
        import torch

        def make():
            module = finish(nn.Conv2d(3, 2, 1))
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            return module
        """,
    )
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sources.load("python:net.py:make").weights_sha256
    assert torch.equal(torch.rand(3), expected)
    assert sources.load("python:net.py:make").weights_sha256 == first
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_made_on_a_gpu_comes_to_the_cpu_with_the_same_fingerprint(here):
    write(here / "net.py", MAKE + "\n\ndef on_gpu():\n    return make().cuda()\n")
    loaded = sources.load("python:net.py:on_gpu")
    assert loaded.module.weight.device.type == "cpu"
    assert loaded.weights_sha256 == sources.load("python:net.py:make").weights_sha256
    assert sources.weights_sha256(loaded.module.cuda()) == loaded.weights_sha256


def test_neighbours_of_a_file_can_be_imported_and_are_forgotten(here):
    for name, channels in (("a", 2), ("b", 5)):
        write(here / name / "blocks.py", f"CHANNELS = {channels}\n")
        write(
            here / name / "net.py",
            """
            import blocks

            def make():
                import later
                return finish(nn.Conv2d(3, blocks.CHANNELS, 1))
            """,
        )
        write(here / name / "later.py", "")
    path, modules = list(sys.path), set(sys.modules)
    assert sources.load("python:a/net.py:make").module.out_channels == 2
    assert sources.load("python:b/net.py:make").module.out_channels == 5
    assert sys.path == path
    new = set(sys.modules) - modules
    assert not {"blocks", "later", "net"} & new
    assert all(name.startswith("modelspace_file_") for name in new)


def test_modules_that_are_installed_stay_imported(here):
    write(here / "net.py", "import this_is_installed\n" + MAKE)
    installed = here / "site"
    write(installed / "this_is_installed.py", "")
    sys.path.append(str(installed))
    try:
        sources.load("python:net.py:make")
        assert "this_is_installed" in sys.modules
    finally:
        sys.path.remove(str(installed))
        sys.modules.pop("this_is_installed", None)


def test_the_module_of_a_file_stays_so_that_its_classes_can_be_found(here):
    write(here / "net.py", "class Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 2, 1)\n")
    flags = PreprocessingFlags((4, 4), (0.0,) * 3, (1.0,) * 3)
    first = sources.load("python:net.py:Net", preprocessing=flags).module
    second = sources.load("python:net.py:Net", preprocessing=flags).module
    assert type(first) is not type(second)
    assert sys.modules[type(first).__module__].Net is type(first)


@pytest.mark.parametrize("path", ["net.py", ":make", "net.py:"])
def test_malformed_addresses(here, path):
    error = refused(f"python:{path}", UsageError)
    assert "does not name a module and a factory" in error.message
    assert error.hint == "write python:package.module:factory or python:path/to/file.py:factory"


def test_a_missing_file_a_folder_and_another_suffix(here):
    write(here / "network.py", MAKE)
    error = refused("python:netwrok.py:make", NotFoundError)
    assert error.message.startswith("there is no file netwrok.py in ")
    assert error.hint == "did you mean network.py?"
    (here / "folder.py").mkdir()
    assert "is a folder, not a Python file" in refused("python:folder.py:make", UsageError).message
    (here / "sub").mkdir()
    (here / "sub" / "net.txt").touch()
    assert "does not end in .py" in refused("python:sub/net.txt:make", UsageError).message


def test_a_missing_module():
    error = refused("python:no_such_module.part:make", NotFoundError)
    assert error.message == "there is no Python module 'no_such_module'"
    assert "'a-b' is not the name of a Python module" in refused("python:a-b:make", UsageError).message


def test_a_missing_factory_gets_the_near_ones(here):
    write(here / "net.py", "def resnet18(): ...\ndef vgg(): ...\n")
    error = refused("python:net.py:resnet", NotFoundError)
    assert (error.message, error.hint) == ("net.py has nothing called 'resnet'", "did you mean resnet18?")
    assert refused("python:net.py:zzz", NotFoundError).hint == "is the name spelled as in the file?"


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        ("def make(): return 3", "the factory make returned a int, not a torch module", "return an instance"),
        ("def make(): pass", "the factory make returned None, not a torch module", "return an instance"),
        ("def make(): return nn.ReLU", "returned the class ReLU, not a model", "return ReLU()"),
        ("def make(depth, width=3): ...", "make(depth, width=3) needs arguments", "def make(): return make(...)"),
        ("class make:\n    def __init__(self, a): ...", "make(a) needs arguments", "write one"),
        ("make = nn.ReLU()", "'make' in net.py is a model, not a function", "def make(): return make"),
        ("make = 3", "'make' in net.py is a int, not a function", "write python:"),
        ("async def make(): ...", "make is a coroutine function", "write it with def"),
    ],
)
def test_things_that_are_no_factories(here, code, words, hint):
    write(here / "net.py", code)
    error = refused("python:net.py:make", UsageError)
    assert words in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def inner():\n    raise RuntimeError('no  such\\nthing')\ndef make():\n    inner()",
            "the factory make raised RuntimeError: no such thing (net.py:2)",
        ),
        ("import sys\nsys.exit('bye')", "running net.py raised SystemExit: bye (net.py:2)"),
        ("def make(:\n", "running net.py raised SyntaxError: invalid syntax (net.py:1)"),
        ("import not_there_at_all", "running net.py raised ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("from . import blocks", "running net.py raised ImportError: attempted relative import"),
        # The line in the user's file, not the one in the library that it called.
        ("import json\ndef make():\n    json.loads('{')", "(net.py:3)"),
        ("def make():\n    exit()", "the factory make raised SystemExit: None (net.py:2)"),
        ("def make():\n    raise ValueError", "the factory make raised ValueError (net.py:2)"),
        ("def make():\n    raise ValueError('x' * 999)", "xxx ... (net.py:2)"),
    ],
)
def test_errors_of_the_users_code_are_one_sentence_with_a_place(here, code, message):
    write(here / "net.py", code, head="")
    error = refused("python:net.py:make")
    assert message in error.message
    assert "\n" not in error.message
    assert len(error.message) < 500
    assert not [name for name in sys.modules if name.startswith("modelspace_file_") and "Error" in name]


def test_a_package_that_fails_or_needs_another(here):
    write(here / "my_nets_2.py", "import not_there_at_all\n", head="")
    write(here / "my_nets_3.py", "\n1 / 0\n", head="")
    write(here / "my_nets_4.py", "raise SystemExit(3)\n", head="")
    assert refused("python:my_nets_4:make").message == "importing my_nets_4 raised SystemExit: 3 (my_nets_4.py:1)"
    assert refused("python:my_nets_2:make").message == (
        "importing my_nets_2 raised ModuleNotFoundError: No module named 'not_there_at_all' (my_nets_2.py:1)"
    )
    assert refused("python:my_nets_3:make").message == (
        "importing my_nets_3 raised ZeroDivisionError: division by zero (my_nets_3.py:2)"
    )


def test_the_path_is_put_back_after_an_error(here):
    write(here / "net.py", "import neighbour\nraise ValueError", head="")
    write(here / "neighbour.py", "")
    before = list(sys.path)
    refused("python:net.py:make")
    assert sys.path == before
    assert "neighbour" not in sys.modules
    assert not [name for name, module in sys.modules.items() if getattr(module, "__file__", "") == str(here / "net.py")]


def test_an_interruption_is_not_swallowed(here):
    write(here / "net.py", "def make():\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        sources.load("python:net.py:make")


def test_an_error_with_a_hint_passes_through(here):
    write(
        here / "net.py",
        """
        from modelspace.errors import ModelspaceError

        def make():
            raise ModelspaceError("the weights are elsewhere", "fetch them")
        """,
    )
    assert refused("python:net.py:make").hint == "fetch them"
