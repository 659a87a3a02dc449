"""Check which models can be registered: each case builds a network, saves random weights, and loads it as a user would.

The weights are saved to a file (transformers: a folder) and loaded through the model's address, so that nothing has to
be downloaded. Random weights and four images are enough to see whether a network loads, which encoder output is
chosen, whether the three attribution methods work, and, in float64, whether the ledger of ε-LRP closes.

    python scripts/check_support.py [NAME ...] [--again] [--list] [--no-page]

Results for the same versions are cached in .cache/support.json; the page is docs/lab-book/support.md. To add another
kind of address, add an entry to `GROUPS`, with a function that yields cases.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
CACHE = ROOT / ".cache" / "support.json"
PAGE = ROOT / "docs" / "lab-book" / "support.md"

METHODS = ("saliency", "gradient_x_input", "epsilon_lrp")
N_IMAGES, SIDE = 4, 128

#: A residual below this means that every node of the graph has a fitting rule.
CLOSED = 1e-9


@dataclass(frozen=True)
class Case:
    """One network to check.

    Attributes:
        name: of the row.
        prepare: writes weights into an empty folder; returns the address and the weights file, if any.
        flags: preprocessing that the address does not give.
    """

    name: str
    prepare: Callable[[Path], tuple[str, str | None]]
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """The result of a case; empty texts and None: it did not get that far."""

    name: str
    loads: bool = False
    parameters: int = 0
    input: str = ""
    layer: str = ""
    found_by: str = ""
    shape: list[int] = field(default_factory=list)
    methods: dict[str, bool] = field(default_factory=dict)
    residual: float | None = None
    seconds: float = 0.0
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return self.loads and len(self.methods) == len(METHODS) and all(self.methods.values()) and not self.error


def images() -> Any:
    """(N_IMAGES, SIDE, SIDE, 3) uint8: smooth random colours and some noise."""
    import numpy as np

    draw = np.random.default_rng(0)
    coarse = draw.random((N_IMAGES, 9, 9, 3))
    steps = np.linspace(0, 8, SIDE)
    low, share = np.minimum(steps.astype(int), 7), steps - np.minimum(steps.astype(int), 7)
    across = coarse[:, low] * (1 - share)[:, None, None] + coarse[:, low + 1] * share[:, None, None]
    smooth = across[:, :, low] * (1 - share)[:, None] + across[:, :, low + 1] * share[:, None]
    return (np.clip(smooth + draw.normal(0, 0.05, smooth.shape), 0, 1) * 255).astype(np.uint8)


def check(name: str, uri: str, weights: str | None = None, flags: dict[str, Any] | None = None) -> Row:
    """Load a model, tap it, compute maps and the ledger. Errors become part of the row."""
    import torch

    from modelspace.attribution.engine import MapRequest, attribute
    from modelspace.attribution.ledger import ledger
    from modelspace.embedding.checks import check_model
    from modelspace.embedding.prepare import Request, prepared
    from modelspace.errors import ModelspaceError
    from modelspace.probes.preprocess import on_image, to_input

    row, pictures, start = Row(name), images(), time.process_time()
    try:
        with prepared(Request(uri, weights=weights, preprocessing=flags, device="cpu"), pictures) as ready:
            card, tap = ready.card, ready.tap
            row.loads, row.parameters = True, card.parameters
            row.input = "x".join(map(str, card.preprocessing.input_size))
            row.layer, row.found_by = card.layer, card.layer_found_by
            x = to_input(pictures, card.preprocessing)
            check_model(tap, x[:2], [MapRequest.of(method) for method in METHODS])
            for method in METHODS:
                row.methods[method] = False
            result = attribute(tap, x, METHODS)
            for method in METHODS:
                whole = on_image(result.maps[method], card.preprocessing, (SIDE, SIDE))
                row.methods[method] = bool(torch.isfinite(whole).all()) and bool(whole.abs().sum() > 0)
            row.shape = list(result.output.shape[1:])
            tap.module.double()
            try:
                row.residual = ledger(tap, x[:1].double()).residual
            finally:
                tap.module.float()  # a model must come back as it was
    except ModelspaceError as error:
        row.error = error.message
    except Exception as error:  # any other exception is a bug: the table reports it
        row.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    row.seconds = round(time.process_time() - start, 1)
    return row


def randomise(module: Any, scale: bool = False) -> None:
    """Random weights like trained ones: no scale is 0 or constant, as many are in a new network.

    Args:
        module: changed in place.
        scale: enlarge matrices and kernels that are so small that the signal vanishes after many layers, and scales
            of norms that are initialised to 0.
    """
    import torch

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if scale and parameter.dim() > 1:
                least = (parameter.numel() / len(parameter)) ** -0.5
                parameter.mul_(max(1.0, least / max(float(parameter.std()), 1e-9)))
            if scale and parameter.dim() == 1 and float(parameter.abs().max()) == 0:
                parameter.add_(1.0)
            if parameter.dim() < 2 or float(parameter.abs().max()) == 0:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=draw) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=draw) + 0.5)


def saved(module: Any, file: Path) -> str:
    from safetensors.torch import save_file

    randomise(module)
    save_file({name: value.clone().contiguous() for name, value in module.state_dict().items()}, file)
    return str(file)


# --- timm

_TIMM = """
resnet18 resnet50 resnet26t skresnet18 ecaresnet26t resnest14d resnetv2_50 dla34 hrnet_w18_small repvgg_a0 gernet_s
ese_vovnet19b_dw hgnetv2_b0 efficientnet_b0 mixnet_s mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small
mobileone_s0 ghostnet_100 lcnet_050 tinynet_e fbnetc_100 rexnet_100 regnetx_002 regnety_002 nfnet_l0 convnext_atto
convnextv2_atto edgenext_xx_small fastvit_t8 repvit_m0_9 starnet_s1 inception_next_atto mambaout_femto
focalnet_tiny_srf vit_tiny_patch16_224 vit_small_patch32_224 vit_small_patch16_dinov3 deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 cait_xxs24_224 xcit_nano_12_p16_224 levit_128s pit_ti_224 crossvit_9_240 convit_tiny
visformer_tiny swin_tiny_patch4_window7_224 pvt_v2_b0 davit_tiny maxvit_nano_rw_256 coat_lite_tiny mobilevit_xxs
mobilevitv2_050 poolformer_s12 caformer_s18 efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0
tiny_vit_5m_224 hiera_tiny_224 gmixer_24_224 resmlp_12_224 gmlp_s16_224 sequencer2d_s vit_tiny_r_s16_p8_224
botnet26t_256 halonet26t lambda_resnet26t
"""


def timm_cases() -> Iterator[Case]:
    for name in _TIMM.split():

        def prepare(folder: Path, name: str = name) -> tuple[str, str | None]:
            import timm

            module = timm.create_model(name, pretrained=False)
            tag = module.pretrained_cfg["tag"]
            return f"timm:{name}.{tag}", saved(module, folder / "weights.safetensors")

        yield Case(f"timm:{name}", prepare)


# --- torchvision

_TORCHVISION = """
alexnet squeezenet1_1 densenet121 googlenet inception_v3 shufflenet_v2_x0_5 mobilenet_v2 mobilenet_v3_small resnet18
resnet50/IMAGENET1K_V2 resnext50_32x4d mnasnet0_5 efficientnet_b0 regnet_y_400mf convnext_tiny vit_b_32 swin_t swin_v2_t
maxvit_t lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large
"""

_AUXILIARY = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "inception_v3": {"aux_logits": True, "init_weights": False},
    "lraspp_mobilenet_v3_large": {"weights_backbone": None, "num_classes": 21},
    "deeplabv3_mobilenet_v3_large": {"weights_backbone": None, "num_classes": 21, "aux_loss": True},
}


def torchvision_cases() -> Iterator[Case]:
    for entry in _TORCHVISION.split():
        name, _, weights = entry.partition("/")

        def prepare(folder: Path, name: str = name, weights: str = weights) -> tuple[str, str | None]:
            from torchvision import models

            module = models.get_model(name, weights=None, **_AUXILIARY.get(name, {}))
            first = weights or next(iter(models.get_model_weights(name))).name
            return f"torchvision:{name}/{first}", saved(module, folder / "weights.safetensors")

        yield Case(f"torchvision:{name}", prepare)


# --- transformers

_SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
_SQUARE = {"image_size": 64, "patch_size": 8}
_STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}

#: Names of the row, the class and its configuration, options that make it small, and the class of the image processor.
TRANSFORMERS: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("ViT", "ViTForImageClassification", "ViTConfig", _SMALL | _SQUARE, "ViTImageProcessor"),
    ("ViT encoder", "ViTModel", "ViTConfig", _SMALL | _SQUARE, "ViTImageProcessor"),
    ("DeiT", "DeiTForImageClassification", "DeiTConfig", _SMALL | _SQUARE, "DeiTImageProcessor"),
    ("BEiT", "BeitForImageClassification", "BeitConfig", _SMALL | _SQUARE, "BeitImageProcessor"),
    (
        "Swin",
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1, 2],
            "num_heads": [2, 2, 4],
            "window_size": 4,
        },
        "ViTImageProcessor",
    ),
    (
        "Swin V2",
        "Swinv2ForImageClassification",
        "Swinv2Config",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1, 2],
            "num_heads": [2, 2, 4],
            "window_size": 4,
        },
        "ViTImageProcessor",
    ),
    ("ConvNeXt", "ConvNextForImageClassification", "ConvNextConfig", _STAGES, "ConvNextImageProcessor"),
    ("ConvNeXt V2", "ConvNextV2ForImageClassification", "ConvNextV2Config", _STAGES, "ConvNextImageProcessor"),
    ("DINOv2", "Dinov2Model", "Dinov2Config", _SMALL | _SQUARE, "BitImageProcessor"),
    (
        "DINOv2 with registers",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        _SMALL | _SQUARE,
        "BitImageProcessor",
    ),
    (
        "ResNet",
        "ResNetForImageClassification",
        "ResNetConfig",
        _STAGES | {"embedding_size": 16},
        "ConvNextImageProcessor",
    ),
    (
        "RegNet",
        "RegNetForImageClassification",
        "RegNetConfig",
        _STAGES | {"embedding_size": 16, "groups_width": 8},
        "ConvNextImageProcessor",
    ),
    (
        "SegFormer",
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32},
        "SegformerImageProcessor",
    ),
    (
        "MobileViT",
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {"hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 40, 64, 128], "image_size": 64},
        "MobileViTImageProcessor",
    ),
    (
        "CLIP (vision tower)",
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": _SMALL | _SQUARE, "text_config": _SMALL | {"vocab_size": 50}, "projection_dim": 16},
        "CLIPImageProcessor",
    ),
    (
        "SigLIP (vision tower)",
        "SiglipModel",
        "SiglipConfig",
        {"vision_config": _SMALL | _SQUARE, "text_config": _SMALL | {"vocab_size": 50}},
        "SiglipImageProcessor",
    ),
    (
        "PVT",
        "PvtForImageClassification",
        "PvtConfig",
        {
            "image_size": 64,
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 3, 4],
        },
        "PvtImageProcessor",
    ),
    ("PoolFormer", "PoolFormerForImageClassification", "PoolFormerConfig", _STAGES, "PoolFormerImageProcessor"),
    (
        "EfficientNet",
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
        "EfficientNetImageProcessor",
    ),
    (
        "MobileNet V2",
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {"depth_multiplier": 0.35},
        "MobileNetV2ImageProcessor",
    ),
    (
        "DPT",
        "DPTForDepthEstimation",
        "DPTConfig",
        _SMALL
        | _SQUARE
        | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 16, 16]}
        | {"fusion_hidden_size": 16},
        "DPTImageProcessor",
    ),
    (
        "ViT MAE",
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        _SMALL
        | _SQUARE
        | {"decoder_hidden_size": 32, "decoder_num_attention_heads": 4, "decoder_num_hidden_layers": 1},
        "ViTImageProcessor",
    ),
]


def transformers_cases() -> Iterator[Case]:
    for name, model, config, options, processor in TRANSFORMERS:

        def prepare(
            folder: Path,
            model: str = model,
            config: str = config,
            options: dict[str, Any] = options,
            processor: str = processor,
        ) -> tuple[str, str | None]:
            import transformers

            module = getattr(transformers, model)(getattr(transformers, config)(**options))
            randomise(module, scale=True)
            module.save_pretrained(folder)
            side = (options.get("vision_config") or options).get("image_size", 64)
            settings = json.loads(getattr(transformers, processor + "Pil")().to_json_string())
            settings |= {"image_processor_type": processor}
            square = {"height": side, "width": side}
            settings["size"] = {"shortest_edge": side} if "shortest_edge" in settings["size"] else square
            if "crop_size" in settings:
                settings["crop_size"] = square
            (folder / "preprocessor_config.json").write_text(json.dumps(settings))
            return f"hf-hub:{folder}", None

        yield Case(f"transformers: {name}", prepare)


#: Title -> the function that yields its cases; needs the packages of the extra of that name.
GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "timm": timm_cases,
    "torchvision": torchvision_cases,
    "transformers": transformers_cases,
}


# --- the table


def versions() -> dict[str, str]:
    table = {}
    for package in ("torch", "timm", "torchvision", "transformers"):
        try:
            table[package] = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            table[package] = "not installed"
    return table


def stored() -> dict[str, dict[str, Any]]:
    if not CACHE.is_file():
        return {}
    cached: dict[str, Any] = json.loads(CACHE.read_text())
    return dict(cached["rows"]) if cached.get("versions") == versions() else {}


def page(rows: dict[str, list[Row]]) -> str:
    """docs/lab-book/support.md."""
    every = [row for group in rows.values() for row in group]
    packages = versions()
    closed = [row for row in every if row.residual is not None and row.residual < CLOSED]
    text = [
        "# Models tested",
        "",
        "```",
        "make support",
        "```",
        "",
        "wrote this page (`scripts/check_support.py`). Each network is built with random weights, which are saved and",
        "loaded through the model's address; four images; the three attribution methods in float32; the ledger of",
        f"ε-LRP in float64, whose residual is below {CLOSED:g} if every rule fits",
        "([Attribution](../reference/attribution.md#the-ledger)). Trained networks are in [another table](real.md).",
        "",
        f"torch {packages['torch']}, timm {packages['timm']}, torchvision {packages['torchvision']}, "
        f"transformers {packages['transformers']}, Python {platform.python_version()}, CPU, one thread.",
        "",
        f"**{len(every)} networks: {sum(row.loads for row in every)} load, "
        f"{sum(bool(row.methods) and all(row.methods.values()) for row in every)} give all three maps, "
        f"the ledger closes for {len(closed)}. {sum(row.seconds for row in every):.0f} seconds of processor time in "
        "total.**",
        "",
    ]
    for title, group in rows.items():
        text += [f"## {title}", "", f"{sum(row.good for row in group)} of {len(group)} without a problem.", ""]
        text += [
            "| network | parameters | input | encoder output T | shape of T | maps | residual | s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in group:
            maps = " ".join("yes" if row.methods.get(method) else "no" for method in METHODS)
            maps = maps if "no" in maps else "all"
            residual = (
                "" if row.residual is None else "0" if row.residual == 0 else f"1e{math.ceil(math.log10(row.residual))}"
            )
            shape = "x".join(map(str, row.shape))
            layer = f"`{row.layer}`" if row.layer else ""
            text.append(
                f"| {row.name.partition(':')[2].strip()} | {row.parameters / 1e6:.1f} M | {row.input} | {layer} "
                f"| {shape} | {maps if row.loads else 'not loaded'} | {residual} | {row.seconds:.1f} |"
            )
        text.append("")
        errors = [row for row in group if row.error]
        text += [f"- {row.name.partition(':')[2].strip()}: {row.error}" for row in errors] + ([""] if errors else [])
    text += [
        "Maps: saliency, gradient*input, ε-LRP, in this order; all: all three work. The residual is rounded up to a",
        "power of ten.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases whose name contains one of these words; default: all")
    parser.add_argument("--again", action="store_true", help="repeat cases with cached results")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    parser.add_argument("--no-page", action="store_true", help="do not write docs/lab-book/support.md")
    options = parser.parse_args()
    cases = {title: list(make()) for title, make in GROUPS.items()}
    if options.list:
        print("\n".join(case.name for group in cases.values() for case in group))
        return

    import torch
    import torchvision_ops

    torch.set_num_threads(1)
    torchvision_ops.declare()
    warnings.simplefilter("ignore")
    done = stored()
    for group in cases.values():
        for case in group:
            selected = not options.names or any(word in case.name for word in options.names)
            if not selected or (case.name in done and not options.again):
                continue
            with tempfile.TemporaryDirectory() as folder:
                torch.manual_seed(0)
                try:
                    uri, weights = case.prepare(Path(folder))
                except Exception as error:
                    row = Row(case.name, error=f"not built: {type(error).__name__}: {str(error).splitlines()[:1]}")
                else:
                    row = check(case.name, uri, weights, case.flags or None)
            done[case.name] = asdict(row)
            CACHE.parent.mkdir(exist_ok=True)
            CACHE.write_text(json.dumps({"versions": versions(), "rows": done}, indent=1))
            closed = "" if row.residual is None else f"{row.residual:.0e}"
            print(f"{row.name:48} {row.seconds:5.1f} s  {row.layer:28} {closed:6} {row.error}", flush=True)
    if not options.no_page:
        rows = {
            title: [Row(**done[case.name]) for case in group if case.name in done] for title, group in cases.items()
        }
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
