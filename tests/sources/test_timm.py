"""Models of timm: the short version of `scripts/check_support.py`, and the input that timm's configuration gives."""

from __future__ import annotations

import pytest
import torch
import torchvision_ops
from safetensors.torch import save_file

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
timm = pytest.importorskip("timm")

from support_cases import attributed, perturb, smooth  # noqa: E402

from modelspace import sources  # noqa: E402
from modelspace.attribution.engine import attribute  # noqa: E402
from modelspace.attribution.ledger import ledger  # noqa: E402
from modelspace.errors import ModelspaceError, NotFoundError, UsageError  # noqa: E402
from modelspace.probes.preprocess import to_input  # noqa: E402
from modelspace.sources import PreprocessingFlags, timm_models  # noqa: E402
from modelspace.types import Preprocessing  # noqa: E402


@pytest.mark.wide
@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 32), ("mobilevit_xxs", 64), ("cait_xxs24_224", 32), ("coat_tiny", 64)]
)
def test_the_ledger_of_a_transformer_closes(name, side):
    sized = {} if name == "mobilevit_xxs" else {"img_size": side}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **sized)
    # Of a layer norm's output the sum is constant; a readout is not.
    net = torch.nn.Sequential(model, torch.nn.Linear(model.num_features, 4)).eval().double()
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    for through_attention in (False, True):
        assert ledger(net, x, through_attention=through_attention).residual < 1e-9
    maps = attribute(net, x, ["epsilon_lrp", "attn_lrp"]).maps
    assert not torch.allclose(maps["epsilon_lrp"], maps["attn_lrp"], rtol=1e-3)


def weights_of(module, path):
    perturb(module)
    save_file({name: value.clone().contiguous() for name, value in module.state_dict().items()}, path)
    return str(path)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("test_resnet.r160_in1k", "fc:in"),
        ("test_vit.r160_in1k", "head:in"),
        ("test_convnext.r160_in1k", "head.fc:in"),
        ("test_efficientnet.r160_in1k", "classifier:in"),
        ("test_nfnet.r160_in1k", "head.fc:in"),
        ("levit_128s.fb_dist_in1k", "head.linear:in"),
    ],
)
def test_a_model_from_a_file_is_loaded_tapped_and_explained(name, layer, tmp_path):
    file = weights_of(timm.create_model(name), tmp_path / "weights.safetensors")
    loaded = sources.load(f"timm:{name}", weights=file)
    assert (loaded.uri, loaded.suggested_name) == (f"timm:{name}", name)
    assert loaded.architecture == name.partition(".")[0]
    assert (loaded.task, loaded.data, loaded.tags["weights"]) == ("classification", "ImageNet-1k", file)
    card = attributed(f"timm:{name}", file)
    assert card.layer == layer


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet18.a1_in1k", {}),  # bicubic, 224 of 235
        ("tf_efficientnetv2_b0.in1k", {}),
        ("test_vit.r160_in1k", {}),
        ("test_vit.r160_in1k", {"crop_pct": 1.0, "crop_mode": "squash"}),
        ("test_vit.r160_in1k", {"crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"}),
        ("test_vit.r160_in1k", {"crop_pct": 0.9, "crop_mode": "border"}),
        ("test_vit.r160_in1k", {"crop_pct": 1.0, "crop_mode": "border", "input_size": (3, 160, 192)}),
        ("test_vit.r160_in1k", {"input_size": (3, 160, 192)}),
        ("test_vit.r160_in1k", {"input_size": (3, 160, 192), "interpolation": "nearest"}),
    ],
)
def test_the_input_is_the_one_that_timm_makes(name, changes):
    """Compared with `timm.data.create_transform`, which resizes in 8 bits: half a step of rounding on each axis."""
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    config = timm.get_pretrained_cfg(name).to_dict() | changes
    preprocessing = Preprocessing(**timm_models.preprocessing_of(config))
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config))
    for side in (128, 256, 401):
        image = smooth(side)
        theirs = transform(Image.fromarray(image))
        ours = to_input(image[None], preprocessing)[0]
        assert ours.shape == theirs.shape
        step = 1 / 255 / min(preprocessing.std)
        assert float((ours - theirs).abs().max()) <= 1.6 * step


def test_a_configuration_that_leaves_something_out_states_nothing():
    config = timm.get_pretrained_cfg("test_vit.r160_in1k").to_dict()
    assert timm_models.preprocessing_of(config)
    for key in ("input_size", "mean", "std", "interpolation", "crop_pct"):
        assert timm_models.preprocessing_of({**config, key: None}) == {}


def test_weights_of_nobody_knows_which_tag_need_flags(tmp_path):
    file = weights_of(timm.create_model("test_vit"), tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="the input size, mean and std of timm:test_vit are not given") as caught:
        sources.load("timm:test_vit", weights=file)
    assert "'mean': (" in caught.value.hint
    flags = PreprocessingFlags((160, 160), (0.5,) * 3, (0.5,) * 3)
    loaded = sources.load("timm:test_vit", weights=file, preprocessing=flags)
    assert loaded.preprocessing == Preprocessing((160, 160), (0.5,) * 3, (0.5,) * 3)
    assert (loaded.uri, loaded.task, loaded.data) == ("timm:test_vit", None, None)


def test_the_number_of_classes_is_the_files(tmp_path):
    file = weights_of(timm.create_model("test_vit", num_classes=7), tmp_path / "weights.safetensors")
    loaded = sources.load("timm:test_vit.r160_in1k", weights=file)
    assert loaded.module(torch.zeros(1, 3, 160, 160)).shape == (1, 7)


def test_weights_of_another_network_are_refused(tmp_path):
    file = weights_of(timm.create_model("test_resnet"), tmp_path / "weights.safetensors")
    with pytest.raises(ModelspaceError, match="don't fit VisionTransformer"):
        sources.load("timm:test_vit.r160_in1k", weights=file)


@pytest.mark.parametrize(
    ("uri", "message", "hint"),
    [
        ("timm:resnett18", "no network called 'resnett18'", "did you mean resnet18"),
        ("timm:resnet18.nope", "no weights 'nope' for resnet18", "timm:resnet18.a1_in1k"),
        ("timm:resnet18.a1_in1", "no weights 'a1_in1'", "did you mean a1_in1k"),
        ("timm:resnet61q.x", "no weights 'x' for resnet61q", "timm:resnet61q.ra2_in1k"),
        ("timm:vit_tiny_patch16_384x", "no network called", "did you mean"),
        ("timm:efficientnet_b8", "has no pretrained weights for efficientnet_b8", "load a file with `weights=`"),
    ],
)
def test_what_is_not_there(uri, message, hint):
    with pytest.raises(NotFoundError) as caught:
        sources.load(uri)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_addresses_of_the_hub_are_sent_there():
    with pytest.raises(UsageError) as caught:
        sources.load("timm:hf-hub:org/name")
    assert caught.value.hint == "for the hub write hf-hub:org/name"


def test_without_a_connection(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def create_model(*args, **options):
        raise LocalEntryNotFoundError("nothing in the cache")

    monkeypatch.setattr(timm_models.timm, "create_model", create_model)
    with pytest.raises(ModelspaceError) as caught:
        sources.load("timm:test_vit.r160_in1k")
    assert caught.value.message == "timm:test_vit.r160_in1k is not on this machine, and the hub can't be reached"
    assert "`weights=file`" in caught.value.hint


def test_a_download_carries_its_commit(monkeypatch):
    """With a replaced `create_model` that needs no download."""
    import huggingface_hub

    original = timm.create_model
    request = {}

    def create_model(name, pretrained=False, **options):
        request["pretrained"] = pretrained
        return original(name, **options)

    monkeypatch.setattr(timm_models.timm, "create_model", create_model)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file: f"/c/{repo}/snapshots/{'a' * 40}/{file}"
    )
    loaded = sources.load("timm:test_vit")
    assert request == {"pretrained": True}
    assert loaded.uri == "timm:test_vit.r160_in1k"  # with the tag that timm chose
    assert loaded.tags["revision"] == "a" * 40
    assert "weights" not in loaded.tags
