"""Errors of downloads: a message and a hint for each error of the libraries."""

from __future__ import annotations

import subprocess
import sys
import urllib.error

import pytest

from modelspace import sources
from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.sources import downloads


def explained(error: BaseException) -> ModelspaceError:
    with pytest.raises(ModelspaceError) as caught, downloads.download_errors("hf-hub:a/b", "fetch it elsewhere"):
        raise error
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.hint
    return caught.value


def hub_error(name: str) -> BaseException:
    """An error of huggingface_hub, without the response that some of them require."""
    errors = pytest.importorskip("huggingface_hub.errors")
    kind = getattr(errors, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "the server's words\nover two lines (Request ID: Root=1-2;3)")
    return error


@pytest.mark.parametrize(
    ("name", "kind", "message", "hint"),
    [
        ("GatedRepoError", ModelspaceError, "hf-hub:a/b is gated", "hf auth login"),
        ("RepositoryNotFoundError", NotFoundError, "there is no hf-hub:a/b on the hub, or it is private", "spelling"),
        ("RevisionNotFoundError", NotFoundError, "hf-hub:a/b has no such revision", "after the @"),
        (
            "LocalEntryNotFoundError",
            ModelspaceError,
            "is not on this machine, and the hub can't be reached",
            "elsewhere",
        ),
        ("OfflineModeIsEnabled", ModelspaceError, "is not on this machine", "elsewhere"),
        ("RemoteEntryNotFoundError", NotFoundError, "hf-hub:a/b lacks a required file", "repository"),
        ("DisabledRepoError", NotFoundError, "has been disabled", "another"),
        ("HfHubHTTPError", ModelspaceError, "can't be downloaded: HfHubHTTPError: the server's words over two", "else"),
    ],
)
def test_errors_of_the_hub(name, kind, message, hint):
    error = explained(hub_error(name))
    assert type(error) is kind
    assert message in error.message
    assert hint in error.hint
    assert "Request ID" not in error.message


def test_errors_of_other_downloads():
    refused = urllib.error.URLError(OSError("no route"))
    assert "can't be downloaded: URLError" in explained(refused).message
    forbidden = urllib.error.HTTPError("x", 403, "Forbidden", None, None)  # type: ignore[arg-type]
    assert explained(forbidden).message == "the weights of hf-hub:a/b can't be downloaded: the server answers 403"
    assert "can't be downloaded" in explained(ConnectionResetError("reset")).message
    damaged = RuntimeError('invalid hash value (expected "a", got "b")')
    assert explained(damaged).hint == "try again"
    assert "no space left" in explained(OSError(28, "No space left on device")).message


def test_the_cause_says_more_than_the_error_around_it():
    outer = OSError("can't load")
    outer.__cause__ = hub_error("GatedRepoError")
    assert "gated" in explained(outer).message


def test_other_errors_are_not_touched():
    with pytest.raises(KeyError), downloads.download_errors("it", "do"):
        raise KeyError("a bug")
    with pytest.raises(NotFoundError, match="unchanged"), downloads.download_errors("it", "do"):
        raise NotFoundError("unchanged")


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("timm:resnet18.a1_in1k", "timm", "timm"),
        ("torchvision:resnet18/DEFAULT", "torchvision", "torchvision"),
        ("hf-hub:a/b", "huggingface_hub", "huggingface"),
    ],
)
def test_a_missing_package_says_which_extra_to_install(uri, package, extra, monkeypatch):
    module = sources.SOURCES[uri.partition(":")[0]].module
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelspaceError) as caught:
        sources.load(uri)
    assert f"need the Python package {package!r}, which is not installed" in caught.value.message
    assert caught.value.hint == f"pip install 'modelspace-db[{extra}]'"
    monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.wide
def test_a_torchvision_that_was_built_for_another_torch():
    """With torch's message, and with a real import if such a torchvision is installed."""
    error = downloads.broken_package("timm", RuntimeError("operator torchvision::nms does not exist"))
    assert error.message == "the installed torchvision was not built for the installed torch"
    assert "pip install --force-reinstall torch torchvision" in error.hint
    code = (
        "from modelspace import sources; from modelspace.errors import ModelspaceError\n"
        "try: sources.load('torchvision:alexnet')\n"
        "except ModelspaceError as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    no_weights = "torchvision:alexnet names no weights, and a model with random weights is not useful"
    assert done.stdout.strip() in (error.message, no_weights)


def test_a_package_that_fails_otherwise(monkeypatch):
    monkeypatch.setattr(downloads.importlib, "import_module", lambda name: 1 / 0)
    with pytest.raises(ModelspaceError, match="the Python package timm can't be imported: ZeroDivisionError") as caught:
        downloads.package("timm")
    assert caught.value.hint == "pip install -U timm"
