"""Models of a local MLflow tracking store: found, loaded by what they are, and refused where they would run code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pytest
import torch
import torchvision_ops
from safetensors.torch import save_file

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
mlflow = pytest.importorskip("mlflow")
timm = pytest.importorskip("timm")

from modelspace import sources  # noqa: E402
from modelspace.errors import ModelspaceError, NotFoundError, UsageError  # noqa: E402

CONFIG = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "crop_pct": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of a run in a store of files, with several artifacts; one is the model net, version 1."""
    folder = tmp_path_factory.mktemp("mlflow")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    patch.setenv("MLFLOW_TRACKING_URI", (folder / "store").as_uri())
    mlflow.set_tracking_uri((folder / "store").as_uri())
    state = {key: value.clone().contiguous() for key, value in timm.create_model("test_resnet").state_dict().items()}
    for name in ("hub", "weights", "pickled", "nothing"):
        (folder / name).mkdir()
    save_file(state, folder / "hub" / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": CONFIG}
    (folder / "hub" / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "weights" / "state_dict.pth")
    (folder / "pickled" / "model.pth").write_bytes(pickle.dumps(torch.nn.Linear(2, 2)))
    (folder / "nothing" / "MLmodel").write_text("flavors: {}")
    client = mlflow.MlflowClient()
    run_id = str(client.create_run(client.create_experiment("tests")).info.run_id)
    for name in ("hub", "weights", "pickled", "nothing"):
        client.log_artifacts(run_id, str(folder / name), name)
    client.create_registered_model("net")
    client.create_model_version("net", source=f"runs:/{run_id}/hub", run_id=run_id)
    yield run_id
    patch.undo()
    mlflow.set_tracking_uri(None)


def test_a_registered_version_is_loaded_with_its_preprocessing(run: str) -> None:
    loaded = sources.load("mlflow:models:/net/1")
    assert (loaded.uri, loaded.suggested_name) == ("mlflow:models:/net/1", "net-1")
    assert loaded.architecture == "test_resnet"
    assert loaded.preprocessing.std == (0.25,) * 3
    assert loaded.tags["run"] == run
    again = sources.load(f"mlflow:runs:/{run}/hub")
    assert again.weights_sha256 == loaded.weights_sha256
    assert again.tags["run"] == run


def test_weights_alone_are_named_with_what_to_type(run: str) -> None:
    with pytest.raises(ModelspaceError, match="are those of timm:test_resnet") as caught:
        sources.load(f"mlflow:runs:/{run}/weights")
    assert f"download_artifacts('runs:/{run}/weights', dst_path='artifacts')" in caught.value.hint
    assert "weights='artifacts/weights/state_dict.pth'" in caught.value.hint


def test_pickled_modules_run_no_code(run: str) -> None:
    with pytest.raises(ModelspaceError, match=r"holds model\.pth, which is not loaded") as caught:
        sources.load(f"mlflow:runs:/{run}/pickled")
    assert "mlflow.onnx.log_model" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["models:/net/9", "models:/none/1", "runs:/nope/hub", "runs:/{run}/absent", "runs:/{run}/nothing"]
)
def test_what_is_not_there_is_not_found(run: str, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        sources.load(f"mlflow:{name.format(run=run)}")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["resnet", "models:/net", "runs:/1", "https://x/y"])
def test_other_addresses_are_explained(run: str, name: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a model") as caught:
        sources.load(f"mlflow:{name}")
    assert "mlflow:models:/NAME/VERSION" in caught.value.hint


def test_passwords_in_the_stores_address_are_not_shown() -> None:
    from modelspace.sources.mlflow_models import _without_password

    assert _without_password("http://me:secret@host:5000/a") == "http://host:5000/a"
    assert _without_password("sqlite:///x.db") == "sqlite:///x.db"
