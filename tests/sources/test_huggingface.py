"""Models of transformers, from a folder and from a simulated hub."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import torchvision_ops

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
transformers = pytest.importorskip("transformers")

from support_cases import attributed, perturb, smooth  # noqa: E402

from modelspace import sources  # noqa: E402
from modelspace.embedding.prepare import Request, prepared  # noqa: E402
from modelspace.errors import ModelspaceError, NotFoundError, UsageError  # noqa: E402
from modelspace.probes.preprocess import to_input  # noqa: E402
from modelspace.sources import PreprocessingFlags, huggingface, processors  # noqa: E402
from modelspace.types import Preprocessing  # noqa: E402

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
VIT = SMALL | {"image_size": 32, "patch_size": 8}
STATED = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def folder_of(path, model, config, processor=STATED):
    module = getattr(transformers, model)(config)
    perturb(module)
    module.save_pretrained(path)
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("vit"), "ViTForImageClassification", transformers.ViTConfig(**VIT))


def copy_of(folder, path, **changes):
    """A copy with changes to config.json; None removes an entry."""
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("model", "config", "layer", "architecture", "task"),
    [
        ("ViTForImageClassification", ("ViTConfig", VIT), "classifier:in", None, "classification"),
        (
            "ConvNextForImageClassification",
            ("ConvNextConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}),
            "classifier:in",
            None,
            "classification",
        ),
        ("Dinov2Model", ("Dinov2Config", VIT), "output", None, None),
        (
            "SegformerForSemanticSegmentation",
            ("SegformerConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}),
            "segformer",
            None,
            "semantic segmentation",
        ),
        (
            "CLIPModel",
            ("CLIPConfig", {"vision_config": VIT, "text_config": SMALL | {"vocab_size": 9, "eos_token_id": 8}}),
            "output",
            "CLIPVisionModel",
            None,
        ),
    ],
)
def test_a_folder_is_loaded_tapped_and_explained(model, config, layer, architecture, task, tmp_path):
    settings = getattr(transformers, config[0])(**config[1])
    card = attributed(f"hf-hub:{folder_of(tmp_path / 'a-model', model, settings)}")
    assert (card.layer, card.architecture, card.task) == (layer, architecture or model, task)
    assert card.name == "a-model"
    assert card.preprocessing == Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)
    assert card.tags.get("part") == ("vision" if model == "CLIPModel" else None)


def test_a_masked_autoencoder_sees_the_whole_image_each_time(tmp_path):
    config = transformers.ViTMAEConfig(
        **VIT, decoder_hidden_size=16, decoder_num_attention_heads=2, decoder_num_hidden_layers=1
    )
    uri = f"hf-hub:{folder_of(tmp_path / 'mae', 'ViTMAEForPreTraining', config)}"
    images = np.stack([smooth(32), smooth(32)[::-1].copy()])
    with prepared(Request(uri, device="cpu"), images) as ready:
        assert ready.card.layer == "vit"
        x = to_input(images, ready.card.preprocessing)
        torch.manual_seed(1)
        first = ready.tap(x)
        torch.manual_seed(2)
        assert torch.equal(first, ready.tap(x))
        assert first.shape == (2, 17, 32)  # all 16 patches and the class token


def test_a_relative_folder_and_weights_of_ones_own(vit, tmp_path, monkeypatch):
    monkeypatch.chdir(vit)
    loaded = sources.load("hf-hub:./.")
    config = transformers.ViTConfig(**VIT)
    other = folder_of(tmp_path / "other", "ViTForImageClassification", config)
    replaced = sources.load("hf-hub:./.", weights=str(other / "model.safetensors"))
    assert replaced.tags["weights"].endswith("model.safetensors")
    direct = sources.load(f"hf-hub:{other}")
    assert replaced.weights_sha256 == direct.weights_sha256 != loaded.weights_sha256


def test_the_same_weights_with_and_without_a_folder_of_code(vit, tmp_path):
    """Code in a folder is ignored for a network that transformers has, and the folder is refused for others."""
    (tmp_path / "bad").mkdir()
    known = copy_of(vit, tmp_path / "known", auto_map={"AutoModel": "evil.Evil"})
    (known / "evil.py").write_text("raise SystemExit('code was run')")
    assert sources.load(f"hf-hub:{known}").weights_sha256 == sources.load(f"hf-hub:{vit}").weights_sha256
    foreign = copy_of(vit, tmp_path / "foreign", auto_map={"AutoModel": "evil.Evil"}, model_type="evil")
    with pytest.raises(ModelspaceError, match="its own code is never run"):
        sources.load(f"hf-hub:{foreign}")


def test_weights_that_would_be_random_are_refused(vit, tmp_path):
    wrong = copy_of(vit, tmp_path / "wrong", architectures=["ViTForMaskedImageModeling"])
    with pytest.raises(ModelspaceError, match=r"lack \d+ that ViTForMaskedImageModeling needs") as caught:
        sources.load(f"hf-hub:{wrong}")
    assert "architectures" in caught.value.hint


def test_a_pooler_that_was_not_trained_is_left_out(vit, tmp_path):
    """A classifier's weights in the bare encoder: its pooler would be random."""
    bare = copy_of(vit, tmp_path / "bare", architectures=["ViTModel"])
    loaded = sources.load(f"hf-hub:{bare}")
    assert loaded.module.pooler is None
    assert attributed(f"hf-hub:{bare}").output_shape == ()


class Code:
    """A pickle that would run something."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_a_pickle_of_tensors_is_read_and_one_with_code_is_not(vit, tmp_path):
    loaded = sources.load(f"hf-hub:{vit}")
    pickled = copy_of(vit, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(loaded.module.state_dict(), pickled / "pytorch_model.bin")
    assert sources.load(f"hf-hub:{pickled}").weights_sha256 == loaded.weights_sha256
    torch.save({"a": Code()}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelspaceError, match="needs code"):
        sources.load(f"hf-hub:{pickled}")


def test_models_that_take_no_images_are_refused(tmp_path):
    config = transformers.BertConfig(**SMALL, vocab_size=9)
    folder_of(tmp_path, "BertModel", config, None)
    with pytest.raises(ModelspaceError, match="is a BertModel, which takes input_ids and not images"):
        sources.load(f"hf-hub:{tmp_path}")


def test_a_folder_without_a_processor_states_nothing(vit, tmp_path):
    bare = copy_of(vit, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match=r"the input size, mean and std of hf-hub:.* are not given"):
        sources.load(f"hf-hub:{bare}")
    flags = PreprocessingFlags((32, 32), (0.5,) * 3, (0.5,) * 3)
    assert sources.load(f"hf-hub:{bare}", preprocessing=flags).preprocessing.input_size == (32, 32)


def test_folders_that_are_no_models(vit, tmp_path):
    for path, message in [("./nope", "there is no folder"), (str(tmp_path), "there is no config.json")]:
        with pytest.raises(NotFoundError, match=message):
            sources.load(f"hf-hub:{path}")
    empty = copy_of(vit, tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(NotFoundError, match="there are no weights in"):
        sources.load(f"hf-hub:{empty}")
    (empty / "config.json").write_text("{")
    with pytest.raises(ModelspaceError, match="can't be read"):
        sources.load(f"hf-hub:{empty}")
    with pytest.raises(UsageError, match="is not the address of a repository"):
        sources.load("hf-hub:a/b/c")


def test_a_repository_is_fetched_at_one_commit(vit, tmp_path, monkeypatch):
    """A simulated hub: what is requested, and that the commit is in the tags."""
    commit = "c" * 40
    folder = tmp_path / "snapshots" / commit
    requests = []
    monkeypatch.setattr(
        huggingface.hub,
        "hf_hub_download",
        lambda name, file, revision=None: (requests.append((name, revision)), str(folder / file))[1],
    )

    def snapshot_download(name, revision=None, allow_patterns=()):
        requests.append((name, revision))
        if not folder.exists():
            shutil.copytree(vit, folder)
        return str(folder)

    monkeypatch.setattr(huggingface.hub, "snapshot_download", snapshot_download)
    loaded = sources.load("hf-hub:org/name@v2")
    assert requests == [("org/name", "v2"), ("org/name", commit)]
    assert (loaded.uri, loaded.suggested_name) == ("hf-hub:org/name@v2", "name")
    assert loaded.tags["revision"] == commit
    assert loaded.weights_sha256 == sources.load(f"hf-hub:{vit}").weights_sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "hf-hub:org/name@v2 is gated"),
        ("RepositoryNotFoundError", "there is no hf-hub:org/name@v2 on the hub"),
        ("LocalEntryNotFoundError", "hf-hub:org/name@v2 is not on this machine, and the hub can't be reached"),
    ],
)
def test_a_hub_that_gives_nothing(name, message, monkeypatch):
    from huggingface_hub import errors

    def refuse(*args, **options):
        kind = getattr(errors, name)
        error = kind.__new__(kind)
        Exception.__init__(error, "no")
        raise error

    monkeypatch.setattr(huggingface.hub, "hf_hub_download", refuse)
    with pytest.raises(ModelspaceError) as caught:
        sources.load("hf-hub:org/name@v2")
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def test_models_of_timm_come_through_timm(tmp_path):
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf

    module = timm.create_model("test_vit.r160_in1k")
    perturb(module)
    save_for_hf(module, tmp_path, safe_serialization=True)
    card = attributed(f"hf-hub:{tmp_path}")
    assert (card.architecture, card.layer) == ("test_vit", "head:in")
    file = str(tmp_path / "model.safetensors")
    same = sources.load("timm:test_vit.r160_in1k", weights=file)
    assert (same.weights_sha256, same.preprocessing) == (card.weights_sha256, card.preprocessing)


# --- image processors


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ViTImageProcessor", {}),
        ("CLIPImageProcessor", {}),
        ("ConvNextImageProcessor", {}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 200}}),
        ("PoolFormerImageProcessor", {}),
        ("LevitImageProcessor", {}),
        ("BitImageProcessor", {"size": {"shortest_edge": 256}}),
        ("SegformerImageProcessor", {"size": {"height": 96, "width": 128}}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 288}}),
        ("EfficientNetImageProcessor", {}),
        ("EfficientNetImageProcessor", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
        ("SiglipImageProcessor", {}),
        ("BeitImageProcessor", {"do_center_crop": True, "size": {"height": 256, "width": 256}}),
        ("MobileNetV2ImageProcessor", {}),
    ],
)
def test_the_input_is_the_one_that_transformers_makes(kind, changes):
    """Compared with the processors themselves, which resize in 8 bits."""
    from PIL import Image

    processor = getattr(transformers, kind + "Pil")(**changes)
    config = json.loads(processor.to_json_string()) | {"image_processor_type": kind}
    preprocessing = Preprocessing(**processors.preprocessing_of(config, "the model"))
    image = smooth(301)
    theirs = torch.from_numpy(np.array(processor(Image.fromarray(image))["pixel_values"][0]))
    ours = to_input(image[None], preprocessing)[0]
    assert ours.shape == theirs.shape
    lo, hi = preprocessing.value_range
    assert float((ours - theirs).abs().max()) <= 1.6 * (hi - lo) / 255 / min(preprocessing.std)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor"),
        ({"do_align_long_axis": True}, "do_align_long_axis"),
        ({"resample": 1}, "Pillow's filter 1"),
        ({"resample": None}, "has no resize filter"),
        ({"size": {"max_pixels": 9}}, "has an ambiguous size"),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 32}, "without resizing"),
        ({"do_normalize": None}, "not whether it is used"),
    ],
)
def test_unsupported_processors_are_refused(changes, message):
    config = {key: value for key, value in (STATED | changes).items() if value is not None}
    with pytest.raises(UsageError, match=message) as caught:
        processors.preprocessing_of(config, "the model")
    assert "'mean': (" in caught.value.hint


def test_flags_replace_an_unsupported_processor(vit, tmp_path):
    other = copy_of(vit, tmp_path / "other")
    (other / "preprocessor_config.json").write_text(json.dumps(STATED | {"resample": 1}))
    with pytest.raises(UsageError, match="filter 1"):
        sources.load(f"hf-hub:{other}")
    flags = PreprocessingFlags((32, 32), (0.5,) * 3, (0.5,) * 3)
    assert sources.load(f"hf-hub:{other}", preprocessing=flags).preprocessing == Preprocessing(
        (32, 32), (0.5,) * 3, (0.5,) * 3
    )
