"""Write `modelspace/sources/architectures.json`: signatures of the tensors of common architectures.

    python scripts/make_architectures.py

Architectures of the installed timm, torchvision and transformers are built on the meta device, without weights, twice:
with the default number of classes and with another, so that the tensors of the head are known. What can't be built is
listed. About ten minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelspace.sources import signatures

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

#: Another number of classes than any default.
OTHER = 7

#: The commonest of several architectures with the same tensors, for which others are variants.
COMMON = ("timm:resnet50", "timm:vit_base_patch16_224", "timm:vit_small_patch16_224", "timm:vit_tiny_patch16_224",
          "timm:vit_large_patch16_224", "timm:convnext_base", "timm:convnext_tiny", "timm:efficientnet_b0")  # fmt: skip

Shapes = dict[str, tuple[int, ...]]
Builder = Callable[[int | None], nn.Module]


def shapes_of(module: nn.Module) -> Shapes:
    return signatures.counted({name: tuple(value.shape) for name, value in module.state_dict().items()})


def signature(build: Builder) -> tuple[tuple[str, ...], int, Shapes]:
    """Names of the head, number of classes, and all shapes."""
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        module = build(None)
        shapes = shapes_of(module)
        other = {}
        if hasattr(module, "reset_classifier"):  # of timm: half the time
            with contextlib.suppress(Exception):
                module.reset_classifier(OTHER)
                other = shapes_of(module)
        if shapes.keys() != other.keys():
            other = shapes_of(build(OTHER))
    head = tuple(name for name, shape in shapes.items() if other.get(name) != shape)
    rows = {shapes[name][0] for name in head}
    if shapes.keys() != other.keys() or len(rows) > 1:
        return (), 0, shapes
    return head, rows.pop() if rows else 0, shapes


def of_timm() -> Iterator[tuple[str, Builder]]:
    import timm

    for name in timm.list_models():

        def build(classes: int | None, name: str = name) -> nn.Module:
            options = {} if classes is None else {"num_classes": classes}
            return timm.create_model(name, pretrained=False, **options)

        yield f"timm:{name}", build


def of_torchvision() -> Iterator[tuple[str, Builder]]:
    from torchvision import models

    segmentation = set(models.list_models(module=models.segmentation))
    for name in sorted({*models.list_models(module=models), *segmentation}):

        def build(classes: int | None, name: str = name) -> nn.Module:
            options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
            if name in segmentation:
                options["weights_backbone"] = None
            elif name in ("googlenet", "inception_v3"):
                options["init_weights"] = False
            return models.get_model(name, weights=None, **options)

        yield f"torchvision:{name}", build


def of_transformers() -> Iterator[tuple[str, Builder]]:
    import transformers

    mappings = ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
                "MODEL_FOR_DEPTH_ESTIMATION_MAPPING", "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING")  # fmt: skip
    for mapping in mappings:
        for config_class, entry in getattr(transformers, mapping).items():
            for model_class in entry if isinstance(entry, tuple) else (entry,):

                def build(classes: int | None, make: Any = model_class, config: Any = config_class) -> nn.Module:
                    return make(config() if classes is None else config(num_labels=classes))

                yield f"transformers:{model_class.__name__}", build


def rank(name: str) -> tuple[bool, bool, int, str]:
    return name not in COMMON, not name.startswith("timm:"), len(name), name


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from torchvision_ops import declare

    declare()
    import timm
    import torchvision
    import transformers

    versions = {module.__name__: module.__version__ for module in (timm, torchvision, transformers)}
    grouped: dict[tuple[Any, ...], list[str]] = {}
    for source in (of_torchvision, of_timm, of_transformers):
        for name, build in source():
            try:
                head, classes, shapes = signature(build)
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:100]!r}", file=sys.stderr)
                continue
            body = {key: shape for key, shape in shapes.items() if key not in head}
            parameters = sum(math.prod(shape) for shape in shapes.values())
            marks = signatures.packed(signatures.sketch(body))
            key = (head, classes, signatures.digest(body), marks, len(shapes), parameters)
            grouped.setdefault(key, []).append(name)
        write(grouped, versions)


def write(grouped: dict[tuple[Any, ...], list[str]], versions: dict[str, str]) -> None:
    heads = sorted({key[0] for key in grouped})
    rows = [
        [sorted(dict.fromkeys(names), key=rank), heads.index(head), *rest] for (head, *rest), names in grouped.items()
    ]
    rows.sort(key=lambda row: row[0])
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    text = f'{{"versions":{json.dumps(versions)},\n"heads":{json.dumps(heads)},\n"architectures":[\n{lines}\n]}}\n'
    signatures.INDEX.write_text(text, "utf-8")
    print(f"{len(rows)} signatures of {sum(len(row[0]) for row in rows)} architectures, {len(text) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
