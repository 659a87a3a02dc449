"""What a bug report needs: versions, devices, optional parts, and the health of the registry; nothing private.

Home folders and the user's name are replaced in every text. Nothing is changed, and nothing but what is listed is read:
no environment variable except those of `VARIABLES`.
"""

from __future__ import annotations

import getpass
import importlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from modelspace import __version__
from modelspace.errors import ModelspaceError
from modelspace.home import REGISTRY
from modelspace.registry import Registry, backups
from modelspace.results import Finding
from modelspace.spaces.cost import machine_memory, size
from modelspace.verbs import pending
from modelspace.verbs.pools import usable_cores

#: Distributions that modelspace needs, with the module that is imported to see whether they work.
REQUIRED = {
    "torch": "torch",
    "duckdb": "duckdb",
    "faiss-cpu": "faiss",
    "numpy": "numpy",
    "scipy": "scipy",
    "captum": "captum",
    "umap-learn": "",  # importing it compiles for seconds
    "safetensors": "safetensors",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "typer": "typer",
}

#: Optional distributions, and the extra that installs them.
OPTIONAL = {
    "timm": "timm",
    "torchvision": "torchvision",
    "transformers": "huggingface",
    "huggingface-hub": "huggingface",
    "onnx": "onnx",
    "pandas": "pandas",
    "scikit-image": "photographs",
    "scikit-learn": "scores",
    "ray": "ray",
}

#: Environment variables that change what modelspace does.
VARIABLES = ("MODELSPACE_HOME", "MODELSPACE_DEBUG", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NO_COLOR", "PAGER")


def doctor(home: Path, *, private: bool = False, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """See `modelspace.workspace.ModelSpace.doctor`."""
    findings = [*_versions(), *_optional(), *_machine(), *_registry(home, progress)]
    if private:
        return findings
    return [Finding(row.part, row.name, masked(row.value), row.ok, masked(row.hint)) for row in findings]


def masked(text: str, home: str | None = None, user: str | None = None) -> str:
    """A text without the user's home folder and name.

    >>> masked("/home/ada/zoo/registry.duckdb, and /data/ada/x", "/home/ada", "ada")
    '~/zoo/registry.duckdb, and /data/USER/x'
    >>> masked("adam reads /data/adamant", "/home/ada", "ada")
    'adam reads /data/adamant'
    """
    if home is None or user is None:
        with suppress(RuntimeError):
            home = str(Path.home())
        with suppress(Exception):  # a container without an entry for this user
            user = getpass.getuser()
    if home and home != os.sep:
        text = re.sub(rf"{re.escape(home)}(?=[{re.escape(os.sep)}\s:,;'\")]|$)", "~", text)
    return re.sub(rf"(?<![\w.-]){re.escape(user)}(?![\w.-])", "USER", text) if user else text


# ---- versions


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "modelspace", __version__)
    yield Finding("versions", "python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("versions", "system", f"{platform.system()} {platform.release()} {platform.machine()}")
    for name, module in REQUIRED.items():
        version = _version(name)
        if version is None:
            yield Finding("versions", name, "not installed", False, "installing modelspace again installs it")
        elif (reason := _fault(module)) is not None:
            hint = f"pip install --force-reinstall {name}"
            yield Finding("versions", name, f"{version}, can't be imported: {reason}", False, hint)
        else:
            yield Finding("versions", name, version)


def _optional() -> Iterator[Finding]:
    for name, extra in OPTIONAL.items():
        version = _version(name)
        hint = f"pip install 'modelspace-db[{extra}]'" if version is None else ""
        yield Finding("optional", name, version or "not installed", True, hint)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fault(module: str) -> str | None:
    """Why a module can't be imported; None if it can."""
    if not module:
        return None
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken installation raises
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


# ---- the machine


def _machine() -> Iterator[Finding]:
    memory = machine_memory()
    yield Finding("machine", "memory", size(memory) if memory is not None else "unknown")
    yield Finding("machine", "processors", f"{usable_cores()} of {os.cpu_count()} usable")
    torch = sys.modules.get("torch")
    if torch is not None:
        yield Finding("machine", "torch threads", str(torch.get_num_threads()))
        yield Finding("machine", "devices", ", ".join(_devices()))
    for name in VARIABLES:
        if name in os.environ:
            yield Finding("environment", name, os.environ[name])


def _devices() -> list[str]:
    """The devices that models can run on."""
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


# ---- the registry


def _registry(home: Path, progress: Callable[[int, int], None] | None) -> Iterator[Finding]:
    path = home / REGISTRY
    if not path.is_file():
        yield Finding("registry", "path", f"none in {home.absolute()}", True, "`ModelSpace.create()` makes one")
        return
    yield Finding("registry", "path", str(path.absolute()))
    yield Finding("registry", "size", size(path.stat().st_size))
    try:
        with Registry.open(path) as registry:
            yield Finding("registry", "schema", str(registry.schema_number))
            yield Finding("registry", "models", str(len(registry.models())))
            for row in registry.spaces():
                spec = row.spec
                default = ", default" if row.is_default else ""
                about = f"{spec.method}, {spec.n_images} images, {row.n_models} models{default}"
                yield Finding("registry", f"space {spec.name}", about)
    except ModelspaceError as error:
        yield Finding("registry", "state", error.message, False, error.hint)
        return
    waiting = len(pending.waiting(path))
    if waiting:
        yield Finding("registry", "waiting passes", str(waiting), True, "`space.resume()` stores them")
    yield _last_backup(path)
    yield from _health(home, progress)


def _last_backup(path: Path) -> Finding:
    known = backups.known(path)
    if not known:
        return Finding("registry", "last backup", "none", True, "`space.backup()` makes one")
    return Finding("registry", "last backup", known[-1].made_at)


def _health(home: Path, progress: Callable[[int, int], None] | None) -> Iterator[Finding]:
    """The quick checks of `verify`: one line if all pass, else those that failed."""
    from modelspace.verbs.verify import verify

    try:
        checks = verify(home, deep=False, progress=progress)
    except ModelspaceError as error:
        yield Finding("registry", "health", error.message, False, error.hint)
        return
    failed = [check for check in checks if not check.ok]
    if not failed:
        yield Finding("registry", "health", f"{len(checks)} checks passed")
    for check in failed:
        yield Finding("registry", f"health: {check.what}", check.detail, False, check.hint)
