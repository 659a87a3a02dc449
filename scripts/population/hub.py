"""Names and metadata of a simulated population, as a public hub has them: one row of the table `models` per model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from modelspace.types import Preprocessing
from population import draws
from population.draws import Integers
from population.families import BASE, COPY, FINE_TUNE, ROLES, Families

TASKS = (
    *("image-classification", "object-detection", "semantic-segmentation", "depth-estimation", "image-to-image"),
    *("face-recognition", "keypoint-detection", "image-feature-extraction", "zero-shot-classification"),
    *("medical-imaging", "remote-sensing", "optical-character-recognition", "anomaly-detection", "super-resolution"),
    *("image-captioning", "visual-question-answering", "pose-estimation", "optical-flow", "plant-recognition"),
    *("food-recognition", "scene-recognition", "age-estimation", "action-recognition", "colorization"),
)

DATA = (
    *("imagenet-1k", "imagenet-21k", "laion-2b", "coco", "ade20k", "cityscapes", "places365", "openimages"),
    *("inaturalist", "food101", "celeba", "ms1m", "chexpert", "isic", "bigearthnet", "eurosat", "kitti", "nyuv2"),
    *("cifar10", "cifar100", "svhn", "mnist", "pets", "cars", "flowers102", "dtd", "sun397", "kinetics", "private"),
)

LICENCES = ("apache-2.0", "mit", "cc-by-nc-4.0", "openrail", "other", "unknown")


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        name: as timm has it.
        parameters: number of parameters.
        side: of its input in pixels.
        layer: the tapped tensor.
        features: length of T.
    """

    name: str
    parameters: int
    side: int
    layer: str
    features: int


ARCHITECTURES = tuple(
    Architecture(*entry)
    for entry in (
        ("resnet18", 11_689_512, 224, "fc:in", 512),
        ("resnet34", 21_797_672, 224, "fc:in", 512),
        ("resnet50", 25_557_032, 224, "fc:in", 2048),
        ("resnet101", 44_549_160, 224, "fc:in", 2048),
        ("wide_resnet50_2", 68_883_240, 224, "fc:in", 2048),
        ("densenet121", 7_978_856, 224, "classifier:in", 1024),
        ("vgg16", 138_357_544, 224, "head.fc:in", 4096),
        ("mobilenetv2_100", 3_504_872, 224, "classifier:in", 1280),
        ("mobilenetv3_large_100", 5_483_032, 224, "classifier:in", 1280),
        ("efficientnet_b0", 5_288_548, 224, "classifier:in", 1280),
        ("efficientnet_b4", 19_341_616, 380, "classifier:in", 1792),
        ("tf_efficientnetv2_s", 21_458_488, 384, "classifier:in", 1280),
        ("regnety_016", 11_202_430, 224, "head.fc:in", 888),
        ("convnext_tiny", 28_589_128, 224, "head.fc:in", 768),
        ("convnext_base", 88_591_464, 288, "head.fc:in", 1024),
        ("vit_tiny_patch16_224", 5_717_416, 224, "head:in", 192),
        ("vit_small_patch16_224", 22_050_664, 224, "head:in", 384),
        ("vit_base_patch16_224", 86_567_656, 224, "head:in", 768),
        ("vit_large_patch14_dinov2", 304_368_640, 518, "norm", 1024),
        ("deit_small_patch16_224", 22_050_664, 224, "head:in", 384),
        ("swin_tiny_patch4_window7_224", 28_288_354, 224, "head.fc:in", 768),
        ("swin_base_patch4_window7_224", 87_768_224, 224, "head.fc:in", 1024),
        ("maxvit_tiny_tf_224", 30_919_624, 224, "head.fc:in", 512),
        ("mixer_b16_224", 59_880_472, 224, "head:in", 768),
    )
)

_ARCHITECTURE, _TASK, _DATA, _LICENCE, _DOWNLOADS, _AUTHOR = range(401, 407)

#: The columns of the table `models`, as SQL over those of `Hub.columns`.
SELECT: Mapping[str, str] = {
    **{
        name: name for name in ("model_id", "name", "uri", "weights_sha256", "identity", "architecture", "task", "data")
    },
    **{name: name for name in ("layer", "layer_found_by", "preprocessing", "parameters", "seconds", "added_at")},
    **{name: name for name in ("code_sha256", "options", "torch")},
    "output_shape": "[features]",
    "input_height": "side",
    "input_width": "side",
    "tags": "map(['family', 'role', 'licence', 'downloads'], [family, role, licence, downloads::VARCHAR])",
}

#: Number of users whose repositories the models are.
AUTHORS = 5_000

#: The first model's time; each later one comes a second after.
_START = datetime(2026, 1, 1)


def tasks(seed: int, people: Families) -> Integers:
    """The number of the task that each family was trained for; popular tasks have more families."""
    return _popular(len(TASKS), seed, _TASK, people.base)


def _popular(count: int, *keys: Any) -> Integers:
    """Numbers below `count`, drawn with probabilities that fall like 1 / (1 + number) (Zipf's law)."""
    ends = np.cumsum(1.0 / np.arange(1, count + 1))
    return np.searchsorted(ends / ends[-1], draws.uniform(*keys), side="right").clip(max=count - 1)


class Hub:
    """Names and metadata of a population.

    Args:
        seed: of the population.
        people: who descends from whom.
    """

    def __init__(self, seed: int, people: Families) -> None:
        self.seed, self.people, self.tasks = seed, people, tasks(seed, people)
        self._preprocessing = {
            side: json.dumps(Preprocessing.imagenet(side).to_dict(), sort_keys=True, separators=(",", ":"))
            for side in {architecture.side for architecture in ARCHITECTURES}
        }

    def names(self, ids: Integers) -> list[str]:
        """The names of models; they say who descends from whom, and no two are equal."""
        parents = self.people.parent[ids]
        data = self._data(ids)
        kind = self._architecture(ids)
        parent_kind, parent_data = self._architecture(parents), self._data(parents)
        names = []
        for at, (number, parent) in enumerate(zip(ids.tolist(), parents.tolist(), strict=True)):
            role = self.people.role[number]
            if role == BASE:
                names.append(f"{ARCHITECTURES[kind[at]].name}.{DATA[data[at]]}_{number:06d}")
            elif role == FINE_TUNE:
                names.append(f"{ARCHITECTURES[kind[at]].name}-{parent:06d}-ft-{DATA[data[at]]}_{number:06d}")
            else:
                bits = "int4" if self.people.four_bits[number] else "int8"
                original = f"{ARCHITECTURES[parent_kind[at]].name}.{DATA[parent_data[at]]}"
                names.append(f"{original}-{parent:06d}-{bits}_{number:06d}")
        return names

    def _architecture(self, ids: Integers) -> Integers:
        return _popular(len(ARCHITECTURES), self.seed, _ARCHITECTURE, self.people.base[ids])

    def _data(self, ids: Integers) -> Integers:
        """The data that a base or a fine-tune was trained on; a copy's are its original's."""
        trained = np.where(self.people.role[ids] == COPY, self.people.parent[ids], ids)
        return _popular(len(DATA), self.seed, _DATA, trained)

    def columns(self, ids: Integers, model_ids: Integers) -> dict[str, np.ndarray]:
        """What rows of the table `models` are made of (`SELECT`), by column.

        Args:
            ids: (n,) numbers of models in the population.
            model_ids: (n,) their ids in the registry.
        """
        names = self.names(ids)
        kinds = [ARCHITECTURES[kind] for kind in self._architecture(ids)]
        weights = [hashlib.sha256(b"%d %d" % (self.seed, number)).hexdigest() for number in ids.tolist()]
        preprocessing = [self._preprocessing[kind.side] for kind in kinds]
        author = draws.below(AUTHORS, self.seed, _AUTHOR, ids)
        own: dict[str, list[Any]] = {
            "name": names,
            "uri": [f"hf-hub:user{a}/{name}" for a, name in zip(author.tolist(), names, strict=True)],
            "weights_sha256": weights,
            "identity": [
                # As `ModelCard.identity` has it, whose JSON sorts these three.
                hashlib.sha256(
                    f'{{"layer":"{kind.layer}","preprocessing":{text},"weights":"{sha}"}}'.encode()
                ).hexdigest()
                for kind, text, sha in zip(kinds, preprocessing, weights, strict=True)
            ],
            "architecture": [kind.name for kind in kinds],
            "task": [TASKS[task] for task in self.tasks[ids]],
            "data": [DATA[data] for data in self._data(ids)],
            "layer": [kind.layer for kind in kinds],
            "layer_found_by": ["input of the last linear map"] * len(ids),
            "preprocessing": preprocessing,
            "code_sha256": [""] * len(ids),
            "options": ["{}"] * len(ids),
            "torch": ["simulated"] * len(ids),
            "licence": [LICENCES[at] for at in _popular(len(LICENCES), self.seed, _LICENCE, ids)],
            "family": [f"family{base:06d}" for base in self.people.base[ids].tolist()],
            "role": [ROLES[role] for role in self.people.role[ids]],
        }
        side = np.array([kind.side for kind in kinds], dtype=np.int32)
        downloads = np.floor(10.0 ** (6 * draws.uniform(self.seed, _DOWNLOADS, ids) ** 2)).astype(np.int64)
        return {name: objects(values) for name, values in own.items()} | {
            "model_id": model_ids,
            "features": np.array([kind.features for kind in kinds], dtype=np.int32),
            "side": side,
            "parameters": np.array([kind.parameters for kind in kinds], dtype=np.int64),
            "seconds": np.zeros(len(ids)),
            "downloads": downloads,
            "added_at": np.datetime64(_START, "us") + ids.astype("timedelta64[s]"),
        }


def objects(values: list[Any]) -> np.ndarray:
    """Values as an array that DuckDB reads as a column of texts or blobs."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
