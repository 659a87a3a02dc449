"""Models of torchvision: the short version of `scripts/check_support.py`, and the input that their transforms give."""

from __future__ import annotations

import urllib.error

import pytest
import torch
import torchvision_ops
from safetensors.torch import save_file

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)

from support_cases import attributed, perturb, smooth
from torchvision import models

from modelspace import sources
from modelspace.errors import ModelspaceError, NotFoundError, UsageError
from modelspace.probes.preprocess import to_input
from modelspace.sources import PreprocessingFlags, torchvision_models
from modelspace.types import Preprocessing


def weights_of(path, name, **options):
    module = models.get_model(name, weights=None, **options)
    perturb(module)
    save_file({key: value.clone().contiguous() for key, value in module.state_dict().items()}, path)
    return str(path)


@pytest.mark.wide
@pytest.mark.parametrize(
    ("name", "options", "layer", "task"),
    [
        ("squeezenet1_1/IMAGENET1K_V1", {}, "classifier.1:in", "classification"),
        ("mobilenet_v3_small/IMAGENET1K_V1", {}, "classifier.3:in", "classification"),
        ("googlenet/IMAGENET1K_V1", {"aux_logits": True, "init_weights": False}, "fc:in", "classification"),
        (
            "lraspp_mobilenet_v3_large/COCO_WITH_VOC_LABELS_V1",
            {"weights_backbone": None, "num_classes": 21},
            "backbone",
            "semantic segmentation",
        ),
    ],
)
def test_a_model_from_a_file_is_loaded_tapped_and_explained(name, options, layer, task, tmp_path):
    file = weights_of(tmp_path / "weights.safetensors", name.partition("/")[0], **options)
    card = attributed(f"torchvision:{name}", file)
    assert (card.layer, card.task, card.uri) == (layer, task, f"torchvision:{name}")
    assert card.tags["weights"] == file
    assert card.data == ("COCO" if "COCO" in name else "ImageNet-1k")


def test_the_network_is_built_as_torchvision_builds_it_for_its_weights(tmp_path):
    """GoogLeNet's published weights need `transform_input`, and have auxiliary heads that are removed after loading."""
    options = {"aux_logits": True, "init_weights": False}
    file = weights_of(tmp_path / "weights.safetensors", "googlenet", **options)
    loaded = sources.load("torchvision:googlenet/DEFAULT", weights=file)
    assert loaded.uri == "torchvision:googlenet/IMAGENET1K_V1"
    assert loaded.module.transform_input is True
    assert loaded.module.aux1 is None
    entry = models.get_model_weights("googlenet").DEFAULT
    assert "get_state_dict" not in vars(entry)


@pytest.mark.parametrize(
    "name",
    [
        "resnet50/IMAGENET1K_V2",
        "efficientnet_b0/IMAGENET1K_V1",
        "swin_v2_t/IMAGENET1K_V1",
        "vit_b_16/IMAGENET1K_SWAG_E2E_V1",
    ],
)
def test_the_input_is_the_one_that_torchvision_makes(name):
    from PIL import Image

    network, _, weights = name.partition("/")
    transforms = models.get_model_weights(network)[weights].transforms()
    preprocessing = Preprocessing(**torchvision_models.preprocessing_of(transforms))
    for side in (128, 301):
        image = smooth(side)
        theirs = transforms(Image.fromarray(image))
        ours = to_input(image[None], preprocessing)[0]
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= 1.6 / 255 / min(preprocessing.std)


def test_never_random_weights():
    with pytest.raises(UsageError) as caught:
        sources.load("torchvision:resnet50")
    no_weights = "torchvision:resnet50 names no weights, and a model with random weights is not useful"
    assert caught.value.message == no_weights
    assert caught.value.hint == (
        "write torchvision:resnet50/IMAGENET1K_V1 or torchvision:resnet50/IMAGENET1K_V2; or add `weights=file`"
    )


def test_weights_of_ones_own_need_flags_and_bring_their_classes(tmp_path):
    file = weights_of(tmp_path / "own.safetensors", "squeezenet1_1", num_classes=7)
    missing = "the input size, mean and std of torchvision:squeezenet1_1 are not given"
    with pytest.raises(UsageError, match=missing):
        sources.load("torchvision:squeezenet1_1", weights=file)
    flags = PreprocessingFlags((64, 64), (0.5,) * 3, (0.5,) * 3)
    loaded = sources.load("torchvision:squeezenet1_1", weights=file, preprocessing=flags)
    assert loaded.module.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert (loaded.uri, loaded.task) == ("torchvision:squeezenet1_1", None)
    with pytest.raises(ModelspaceError, match="don't fit torchvision:squeezenet1_1/IMAGENET1K_V1") as caught:
        sources.load("torchvision:squeezenet1_1/IMAGENET1K_V1", weights=file)
    assert "write torchvision:squeezenet1_1 and set" in caught.value.hint


@pytest.mark.parametrize(
    ("uri", "kind", "message", "hint"),
    [
        ("torchvision:resnet51/DEFAULT", NotFoundError, "no network called 'resnet51'", "did you mean resnet"),
        ("torchvision:resnet18/V9", NotFoundError, "no weights 'V9'", "torchvision:resnet18/IMAGENET1K_V1"),
        ("torchvision:fasterrcnn_resnet50_fpn/DEFAULT", UsageError, "does not take a batch of images", "python:"),
        ("torchvision:r3d_18/DEFAULT", UsageError, "does not take a batch of images", "python:"),
    ],
)
def test_what_is_not_there(uri, kind, message, hint):
    with pytest.raises(kind) as caught:
        sources.load(uri)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_without_a_connection(monkeypatch, tmp_path):
    def unreachable(*args, **options):
        assert options["weights_only"] is True
        raise urllib.error.URLError("no route")

    import torchvision.models._api as api

    monkeypatch.setattr(api, "load_state_dict_from_url", unreachable)
    with pytest.raises(ModelspaceError) as caught:
        sources.load("torchvision:resnet18/IMAGENET1K_V1")
    assert "the weights of torchvision:resnet18/IMAGENET1K_V1 can't be downloaded: URLError" in caught.value.message
    assert "resnet18-f37072fd.pth" in caught.value.hint
    assert "`weights=file`" in caught.value.hint
    assert "get_state_dict" not in vars(models.get_model_weights("resnet18").DEFAULT)


def test_a_download_is_read_without_running_code_and_says_where_it_came_from(monkeypatch):
    import torchvision.models._api as api

    state = models.get_model("squeezenet1_1", weights=None).state_dict()
    request = {}
    monkeypatch.setattr(
        api, "load_state_dict_from_url", lambda url, **options: (request.update(options, url=url), state)[1]
    )
    loaded = sources.load("torchvision:squeezenet1_1/default")
    assert request["weights_only"] is True
    assert request["check_hash"] is True
    assert loaded.tags["url"] == request["url"]
    assert loaded.uri == "torchvision:squeezenet1_1/IMAGENET1K_V1"
