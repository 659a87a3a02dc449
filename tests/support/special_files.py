"""Named pipes, sockets, devices and folders in the place of files: what the library says of each, as lines of JSON.

    python tests/support/special_files.py FOLDER

A process of its own, since a library written in C that waits for a pipe can't be interrupted from Python.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from modelspace.errors import ModelspaceError


def pipe(path: Path) -> None:
    os.mkfifo(path)


def pipe_behind_a_link(path: Path) -> None:
    os.mkfifo(path.with_name(f"{path.name}-pipe"))
    path.symlink_to(f"{path.name}-pipe")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket has at most 107 characters
        server.bind(path.name)
        os.chdir(here)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": pipe,
    "pipe behind a link": pipe_behind_a_link,
    "socket": bound_socket,
    "device": endless_device,
    "folder": Path.mkdir,
}

Put = Callable[[Path], None]


def _net() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(2, 2))


def _registry(folder: Path) -> Path:
    from modelspace.registry import Registry

    Registry.create(folder / "registry.duckdb")
    return folder / "registry.duckdb"


def registry_to_open(folder: Path, put: Put) -> None:
    from modelspace.workspace import ModelSpace

    put(folder / "registry.duckdb")
    ModelSpace.open(folder)


def registry_to_read(folder: Path, put: Put) -> None:
    from modelspace.registry import Registry

    put(folder / "registry.duckdb")
    Registry.open(folder / "registry.duckdb", timeout=0.2)


def registry_to_create(folder: Path, put: Put) -> None:
    from modelspace.workspace import ModelSpace

    put(folder / "registry.duckdb")
    ModelSpace.create(folder, images=2, canvas=8)


def registry_to_merge(folder: Path, put: Put) -> None:
    from modelspace.verbs.merge import merge

    path = _registry(folder)
    put(folder / "other.duckdb")
    merge(path, folder / "other.duckdb")


def log_to_read(folder: Path, put: Put) -> None:
    from modelspace.registry import Registry

    path = _registry(folder)
    put(folder / "registry.duckdb.wal")
    Registry.open(path, timeout=0.2)


def log_to_write(folder: Path, put: Put) -> None:
    from modelspace.registry import Registry

    path = _registry(folder)
    put(folder / "registry.duckdb.wal")
    Registry.open(path, write=True, timeout=0.2)


def lock(folder: Path, put: Put) -> None:
    from modelspace.registry import Registry

    path = _registry(folder)
    put(folder / "registry.duckdb.lock")
    Registry.open(path, write=True, timeout=0.2)


def _index(folder: Path, put: Put, suffix: str) -> str:
    from modelspace.spaces import index

    def load() -> index.SpaceIndex:
        vectors = np.eye(3, 4, dtype=np.float32)
        return index.load(folder, "s", registry_id="r", generation=1, fetch=lambda: (np.arange(3), vectors))

    load()
    (folder / f"s{suffix}").unlink()
    put(folder / f"s{suffix}")
    scores, _ = load().search(np.eye(1, 4), 1)
    return f"answers {scores[0, 0]:.0f}"


def index_file(folder: Path, put: Put) -> str:
    return _index(folder, put, ".faiss")


def index_manifest(folder: Path, put: Put) -> str:
    return _index(folder, put, ".json")


def index_temporary(folder: Path, put: Put) -> str:
    from modelspace.spaces import index

    put(folder / f".s.faiss.{os.getpid()}.tmp")
    vectors = np.eye(3, 4, dtype=np.float32)
    built = index.load(folder, "s", registry_id="r", generation=1, fetch=lambda: (np.arange(3), vectors))
    return f"answers {built.search(np.eye(1, 4), 1)[0][0, 0]:.0f}"


def finished_pass(folder: Path, put: Put) -> None:
    from modelspace.verbs import pending

    path = _registry(folder)
    put(folder / "a.pass")
    pending.read(folder / "a.pass", path)


def finished_pass_waiting(folder: Path, put: Put) -> str:
    from modelspace.verbs import pending

    path = _registry(folder)
    (folder / "pending").mkdir()
    put(folder / "pending" / "a-00000000.pass")
    return f"answers {len(pending.store_waiting(path))}"


def cached_probe_images(folder: Path, put: Put) -> str:
    from modelspace.probes import cache

    os.environ["MODELSPACE_CACHE"] = str(folder)
    put(folder / "set-0.npz")
    images = cache.images("set", 0, 1, (2, 2, 3), lambda first, count: np.full((count, 2, 2, 3), 7, np.uint8))
    return f"answers {images[0, 0, 0, 0]}"


def cached_features(folder: Path, put: Put) -> str:
    from modelspace.tasks.cache import FeatureCache

    first = FeatureCache("data", "model", folder)
    first.put(["a"], np.ones((1, 2), np.float32))
    kept = next(folder.rglob("*.npz"))
    kept.unlink()
    put(kept)
    return f"answers {FeatureCache('data', 'model', folder).missing(['a'])}"


def probe_image(folder: Path, put: Put) -> None:
    from modelspace.probes.decoding import read_square

    put(folder / "a.png")
    read_square(folder / "a.png", 8)


def probe_folder(folder: Path, put: Put) -> str:
    from modelspace import probes

    put(folder / "a.png")
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    return f"answers {probes.folder(folder)[0].n_images}"


def task_image(folder: Path, put: Put) -> None:
    from modelspace.tasks import data

    for number in range(4):
        file = folder / str(number % 2) / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    put(folder / "0" / "a.png")
    data.read(folder)


def task_table(folder: Path, put: Put) -> None:
    from modelspace.tasks import data

    put(folder / "labels.csv")
    data.read(folder / "labels.csv")


def task_table_parquet(folder: Path, put: Put) -> None:
    from modelspace.registry.files import read_parquet

    put(folder / "labels.parquet")
    read_parquet(folder / "labels.parquet", ("path",))


def weights(folder: Path, put: Put) -> None:
    from modelspace.sources.weights import load_weights

    put(folder / "w.pt")
    load_weights(_net(), str(folder / "w.pt"))


def part_of_weights(folder: Path, put: Put) -> None:
    from modelspace.sources.weights import load_weights

    save_file(_net().state_dict(), folder / "a.safetensors")
    index = {"weight_map": {"0.weight": "a.safetensors", "0.bias": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    put(folder / "b.safetensors")
    load_weights(_net(), str(folder))


def _source(uri: str) -> None:
    from modelspace import sources

    sources.load(uri)


def onnx_file(folder: Path, put: Put) -> None:
    put(folder / "a.onnx")
    _source(f"onnx:{folder / 'a.onnx'}")


def onnx_data(folder: Path, put: Put) -> None:
    import onnx
    from onnx import TensorProto, helper

    weight = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="c.data")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "g", [image], [output], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    put(folder / "c.data")
    assert onnx.__version__
    _source(f"onnx:{folder / 'a.onnx'}")


def exported_program(folder: Path, put: Put) -> None:
    put(folder / "a.pt2")
    _source(f"file:{folder / 'a.pt2'}")


def python_file(folder: Path, put: Put) -> None:
    put(folder / "a.py")
    _source(f"python:{folder / 'a.py'}:make")


def taskonomy_weights(folder: Path, put: Put) -> None:
    from modelspace import sources

    put(folder / "a.pth")
    sources.load("taskonomy:normal", weights=str(folder / "a.pth"))


def manifest(folder: Path, put: Put) -> None:
    from modelspace.verbs import manifest as manifests

    put(folder / "zoo.toml")
    manifests.read(folder / "zoo.toml")


def outcomes(folder: Path, put: Put) -> None:
    from modelspace.verbs.tasks import read_observations

    put(folder / "scores.csv")
    read_observations(folder / "scores.csv", "t")


def affinities(folder: Path, put: Put) -> None:
    from modelspace.evaluation.matrices import read_affinity

    put(folder / "a.npy")
    read_affinity(folder / "a.npy")


def oracle(folder: Path, put: Put) -> None:
    from modelspace.evaluation.oracles import load

    put(folder / "a.csv")
    load(str(folder / "a.csv"))


PLACES: tuple[Callable[[Path, Put], str | None], ...] = (
    registry_to_open,
    registry_to_read,
    registry_to_create,
    registry_to_merge,
    log_to_read,
    log_to_write,
    lock,
    index_file,
    index_manifest,
    index_temporary,
    finished_pass,
    finished_pass_waiting,
    cached_probe_images,
    cached_features,
    probe_image,
    probe_folder,
    task_image,
    task_table,
    task_table_parquet,
    weights,
    part_of_weights,
    onnx_file,
    onnx_data,
    exported_program,
    python_file,
    taskonomy_weights,
    manifest,
    outcomes,
    affinities,
    oracle,
)


def trial(folder: Path, place: Callable[[Path, Put], str | None], kind: str) -> dict[str, Any]:
    """What was said, and after how many seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        said, how = place(folder, KINDS[kind]), "result"
    except ModelspaceError as error:
        said, how = error.message, type(error).__name__
    except Exception as error:
        said, how = f"{type(error).__name__}: {error}", "internal error"
    seconds = round(time.monotonic() - start, 2)
    return {"place": place.__name__, "kind": kind, "how": how, "said": said, "seconds": seconds}


def main() -> None:
    root = Path(sys.argv[1])
    for place in PLACES:
        for kind in KINDS:
            print(f"{place.__name__} {kind}", file=sys.stderr, flush=True)
            print(json.dumps(trial(root / "trial", place, kind)), flush=True)


if __name__ == "__main__":
    main()
