"""Synthetic spaces for the tests of analysis and plots: families inside groups, one hub and one outlier per space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUPS = ("2D", "3D", "geometric", "semantic")

TASKONOMY = {
    "2D": ("autoencoder", "denoise", "edge2d", "keypoint2d", "segment2d", "colorization", "inpainting_whole"),
    "3D": ("curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"),
    "geometric": ("room_layout", "vanishing_point"),
    "semantic": ("class_1000", "class_places", "segmentsemantic"),
}
COLLECTED = {
    "semantic": (
        "inception_v3",
        "inception_resnet_v2",
        "vgg_16",
        "vgg_19",
        "resnet_v1_50",
        "resnet_v1_101",
        "resnet_v1_152",
        "mobilenet_v1_1.0_224",
        "mobilenet_v1_0.5_160",
        "mobilenet_v1_0.25_128",
        "fcn_voc_segmentation",
        "tiny_face_detector",
    ),
    "2D": ("inpainting_places2", "inpainting_celeba", "inpainting_celeba_hq", "inpainting_imagenet"),
    "3D": ("fcrn_depth_nyu",),
    "geometric": ("prn_face_alignment",),
}


@dataclass
class Space:
    """names and groups (n,), cosines per image (n_images, n, n) float32 or None, affinity (n, n), vectors (n, d)."""

    names: list[str]
    groups: list[str | None]
    cosines: NDArray[np.float32] | None
    affinity: NDArray[np.float64]
    vectors: NDArray[np.float32]


def make_space(n: int, n_images: int = 40, dim: int = 24, seed: int = 0, with_cosines: bool = True) -> Space:
    """n models: 38 have the paper's names and groups, other numbers get architecture names in families of about 12."""
    rng = np.random.default_rng(seed)
    names: list[str] = []
    groups: list[str | None] = []
    family: list[int] = []
    if n in (20, 38):
        for table in (TASKONOMY, COLLECTED)[: 1 + (n == 38)]:
            for group, members in table.items():
                names += members
                groups += [group] * len(members)
                family += [len(set(family)) + (i // 4) for i in range(len(members))]
    else:
        kinds = ("resnet50", "vit_base_patch16", "convnext_tiny", "efficientnet_b0", "densenet121", "swin_small")
        n_families = max(3, n // 12)
        of = np.sort(rng.integers(0, n_families, n))
        for i in range(n):
            names.append(f"{kinds[i % len(kinds)]}.{('imagenet', 'places', 'coco', 'nyu')[int(of[i]) % 4]}_{i:03d}")
            groups.append(GROUPS[int(of[i]) % 4])
            family.append(int(of[i]))
    family_array = np.unique(family, return_inverse=True)[1]
    group_array = np.unique([str(g) for g in groups], return_inverse=True)[1]

    def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    shape = (n_images, dim)
    group_centres = rng.normal(size=(group_array.max() + 1, *shape))
    family_centres = rng.normal(size=(family_array.max() + 1, *shape))
    nearness = rng.uniform(0.3, 1.1, size=(n, 1, 1))
    maps = 0.35 * group_centres[group_array] + nearness * family_centres[family_array] + rng.normal(size=(n, *shape))
    # A hub is near to everybody a little: the mean of all. A lonely model shares nothing.
    maps[0] = maps[0] * 0.3 + 5 * maps.mean(axis=0)
    if n > 5:
        maps[-1] = rng.normal(size=shape)
    maps = unit(maps)
    cosines = np.einsum("aid,bid->iab", maps, maps).astype(np.float32) if with_cosines else None
    flat = maps.reshape(n, -1) / np.sqrt(n_images)
    affinity = flat @ flat.T
    np.fill_diagonal(affinity, 1.0)
    return Space(names, groups, cosines, affinity, flat.astype(np.float32))
