"""T of architectures of transformers, timm and torchvision, built small and with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision_ops
from support_cases import perturb
from torch import Tensor, nn

from modelspace.attribution.engine import MapRequest, frozen
from modelspace.embedding.checks import check_model, steadier
from modelspace.encoder.inputs import fed
from modelspace.encoder.layers import find_encoder_output, first_tensor, survey
from modelspace.types import ExtraInput

if not torchvision_ops.declare():
    pytest.skip("torchvision is not installed", allow_module_level=True)
transformers: Any = pytest.importorskip("transformers")
timm: Any = pytest.importorskip("timm")
torchvision: Any = pytest.importorskip("torchvision")

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VIT = SMALL | {"image_size": 64, "patch_size": 16}
DINO = {key: value for key, value in VIT.items() if key != "intermediate_size"}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
SEGFORMER = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
DECODER = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
DETR = DECODER | {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "num_queries": 5}
SAM = SMALL | {"image_size": 64, "patch_size": 16, "mlp_dim": 64, "output_channels": 16, "num_pos_feats": 8}
TIMM_VIT = {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2}


def resnet(*stages: str) -> Any:
    return transformers.ResNetConfig(**RESNET, out_features=list(stages))


def detr() -> nn.Module:
    backbone = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    config = transformers.DetrConfig(**backbone, backbone_config=resnet("stage4"), **DETR)
    return transformers.DetrForObjectDetection(config)


def sam() -> nn.Module:
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    return SamVisionEncoder(transformers.SamVisionConfig(**SAM, window_size=2, global_attn_indexes=[1]))


def trocr() -> nn.Module:
    parts = transformers.ViTConfig(**VIT), transformers.TrOCRConfig(vocab_size=20, **DECODER)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    return transformers.VisionEncoderDecoderModel(config)


def upernet() -> nn.Module:
    config = transformers.UperNetConfig(
        backbone_config=resnet("stage1", "stage2", "stage3", "stage4"), hidden_size=16, num_labels=4
    )
    return transformers.UperNetForSemanticSegmentation(config)


def dpt() -> nn.Module:
    necks = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
    return transformers.DPTForDepthEstimation(transformers.DPTConfig(**(VIT | {"num_hidden_layers": 4}), **necks))


def segmentation(name: str) -> nn.Module:
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)


#: Network, T, why, and how to compute the same tensor from the network's public output; None where the output lacks it.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, str, Callable[[nn.Module], Any] | None]] = {
    "ResNetBackbone": (
        lambda: transformers.ResNetBackbone(resnet("stage2", "stage4")),
        "output",
        "output: its feature_maps, the deepest of 2",
        lambda net: net(X).feature_maps[-1],
    ),
    "AutoBackbone of a ViT": (
        lambda: transformers.AutoBackbone.from_config(transformers.Dinov2Config(**DINO, out_indices=[1, 2])),
        "output",
        "output: its feature_maps, the deepest of 2",
        lambda net: net(X).feature_maps[-1],
    ),
    "SegformerForSemanticSegmentation": (
        lambda: transformers.SegformerForSemanticSegmentation(
            transformers.SegformerConfig(**SEGFORMER, decoder_hidden_size=16, num_labels=4)
        ),
        "segformer",
        "output of segformer, the deepest of 4; the output holds predictions (logits)",
        lambda net: net(X, output_hidden_states=True).hidden_states[-1],
    ),
    "DetrForObjectDetection": (
        detr,
        "model.encoder",
        "encoder_last_hidden_state of the output",
        lambda net: net(X).encoder_last_hidden_state,
    ),
    "YolosForObjectDetection": (
        lambda: transformers.YolosForObjectDetection(
            transformers.YolosConfig(**(VIT | {"image_size": [64, 64]}), num_detection_tokens=5, num_labels=3)
        ),
        "vit",
        "last_hidden_state of the output",
        lambda net: net(X).last_hidden_state,
    ),
    "CLIPVisionModel": (
        lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VIT)),
        "output",
        "output: its pooler_output",
        lambda net: net(X).pooler_output,
    ),
    "CLIPVisionModelWithProjection": (
        lambda: transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VIT, projection_dim=16)),
        "visual_projection",
        "image_embeds of the output",
        lambda net: net(X).image_embeds,
    ),
    "SiglipVisionModel": (
        lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VIT)),
        "output",
        "output: its pooler_output",
        lambda net: net(X).pooler_output,
    ),
    "SamVisionEncoder": (
        sam,
        "output",
        "output: it has shape (16, 4, 4) per image, which are no class scores",
        lambda net: net(X).last_hidden_state,
    ),
    "UperNetForSemanticSegmentation": (
        upernet,
        "backbone",
        "output of backbone, the deepest of 4; the output holds predictions (logits)",
        lambda net: net.backbone(X).feature_maps[-1],
    ),
    "DPTForDepthEstimation": (
        dpt,
        "dpt:hidden_states.4",
        "output of dpt, the deepest of 6; the output holds predictions (predicted_depth)",
        lambda net: net(X, output_hidden_states=True).hidden_states[-1],
    ),
    "ViTForImageClassification": (
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, num_labels=5)),
        "classifier:in",
        "input of the last linear map before the class scores",
        lambda net: net.vit(X).last_hidden_state[:, 0],
    ),
    "timm resnet, features_only": (
        lambda: timm.create_model("resnet10t", features_only=True),
        "output",
        "output: the deepest of 5 feature maps",
        lambda net: net(X)[-1],
    ),
    "timm mobilenet, features_only": (
        lambda: timm.create_model("mobilenetv3_small_050", features_only=True),
        "output",
        "output: the deepest of 5 feature maps",
        lambda net: net(X)[-1],
    ),
    # maps of one size: the last
    "timm ViT, features_only": (
        lambda: timm.create_model("vit_tiny_patch16_224", features_only=True, out_indices=(0, 1), **TIMM_VIT),
        "output",
        "output: it has shape (24, 4, 4) per image, which are no class scores",
        lambda net: net(X)[-1],
    ),
    "timm ViT": (
        lambda: timm.create_model("vit_tiny_patch16_224", **TIMM_VIT),
        "head:in",
        "input of the last linear map before the class scores",
        lambda net: net.forward_head(net.forward_features(X), pre_logits=True),
    ),
    "torchvision lraspp": (
        lambda: segmentation("lraspp_mobilenet_v3_large"),
        "backbone",
        "output of backbone, the deepest of 2; a decoder follows it",
        lambda net: net.backbone(X)["high"],
    ),
}


@pytest.mark.wide
@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_encoder_output_of_real_architectures(name: str) -> None:
    build, layer, reason, public = NETWORKS[name]
    torch.manual_seed(0)
    net = build().eval()
    perturb(net)
    result = survey(net, X)
    assert result.tap is not None
    assert (result.tap.layer, result.tap.found_by) == (layer, reason)
    assert result.complete
    with torch.no_grad():
        own, expected = result.tap(X), public(net)
    assert torch.equal(own, expected)
    with frozen(net):
        # weights that are not uniform, as trained ones: the norms at the end make no sum constant
        assert steadier(result.tap, X) == (result.tap, ())
        check_model(result.tap, X, [MapRequest("gradient_x_input")])
    # every candidate can be typed
    for candidate in result.candidates:
        assert len(find_encoder_output(net, X, candidate.layer)(X)) == len(X)


def test_an_untrained_network_is_explained_before_its_norm() -> None:
    torch.manual_seed(0)
    net = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VIT)).eval()
    with frozen(net):
        tap, remarks = steadier(find_encoder_output(net, X), X)
        assert tap.layer == "post_layernorm:in"
        assert "the last layer before the layer norm in which output ends: the sum of" in remarks[0]
        assert check_model(tap, X, [MapRequest("gradient_x_input")]).notes == ()


def test_an_encoder_and_a_decoder_of_text_need_the_first_token_and_then_work() -> None:
    torch.manual_seed(0)
    net = trocr().eval()
    perturb(net)
    refused = survey(net, X)
    assert (refused.tap, refused.complete) == (None, False)
    assert refused.refusal is not None
    assert "needs a further input besides the images, decoder_input_ids" in refused.refusal.message
    assert 'modelspace_inputs = {"decoder_input_ids": {"shape": [1], "value": 1}}' in refused.refusal.hint
    # the encoder has run
    assert "encoder" in [row.name for row in refused.rows if not row.refusal]
    assert find_encoder_output(net, X, "encoder").layer == "encoder"
    with fed(net, (ExtraInput("decoder_input_ids", value=1, shape=(1,)),)):
        tap = find_encoder_output(net, X)
        # "encoder" means the pooled token there
        assert (tap.layer, tap.found_by) == ("encoder.layernorm", "encoder_last_hidden_state of the output")
        own = tap(X)
    assert torch.equal(own, net.encoder(X).last_hidden_state)


def test_what_takes_text_or_video_is_told_from_what_takes_images() -> None:
    text = {**SMALL, "vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
    clip = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=VIT, projection_dim=16))
    refusal = survey(clip.eval(), X).refusal
    assert refusal is not None
    assert "its first argument is input_ids, and it takes images as pixel_values" in refusal.message

    video = transformers.VideoMAEModel(transformers.VideoMAEConfig(**VIT, num_frames=4, tubelet_size=2)).eval()
    refusal = survey(video, X).refusal
    assert refusal is not None
    assert "it takes video, (batch, time, channels, height, width), and not images" in refusal.message
    assert "model(x.unsqueeze(1).repeat_interleave(4, 1))" in refusal.hint
    perturb(video)

    class Still(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = video

        def forward(self, x: Tensor) -> Tensor:
            return first_tensor(self.model(x.unsqueeze(1).repeat_interleave(4, 1)))

    assert find_encoder_output(Still(), X)(X).shape == (2, 32, 32)
