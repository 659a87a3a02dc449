"""One task, several spellings: which name of one table means which name of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelspace.errors import ConflictError

#: Spellings of one task, Taskonomy's published order first. Sources: the two result tables of Zamir et al. 2018, whose
#: names differ in three places, and the names under which the pretrained encoders are given away (visualpriors).
SPELLINGS: tuple[tuple[str, ...], ...] = (
    ("autoencoder", "autoencoding"),
    ("class_1000", "class_object"),
    ("class_places", "class_scene", "class_place"),
    ("colorization", "colorizing"),
    ("curvature", "principal_curvature"),
    ("denoise", "denoising"),
    ("edge2d", "edge_texture"),
    ("edge3d", "edge_occlusion"),
    ("inpainting_whole", "impainting_whole", "inpainting"),
    ("keypoint2d", "keypoints2d"),
    ("keypoint3d", "keypoints3d"),
    ("reshade", "reshading", "rgb2reshade"),
    ("rgb2depth", "depth_zbuffer", "depth"),
    ("rgb2mist", "depth_euclidean", "mist"),
    ("rgb2sfnorm", "normal", "normals"),
    ("room_layout", "layout"),
    ("segment25d", "segment_unsup25d"),
    ("segment2d", "segment_unsup2d"),
    ("segmentsemantic", "segmentsemantic_rb", "segment_semantic", "semantic"),
    ("vanishing_point", "vanishing_point_well_defined", "vanishing"),
)


def match(wanted: Sequence[str], available: Iterable[str]) -> list[str | None]:
    """For each wanted name the one of `available` that means the same model, or None.

    The same spelling wins; otherwise another spelling of the same task (`SPELLINGS`).

    Raises:
        ConflictError: a wanted name has no equal in `available`, but two other spellings of it are there.

    >>> match(["vanishing_point", "jigsaw"], ["vanishing_point_well_defined", "reshade"])
    ['vanishing_point_well_defined', None]
    """
    there = list(dict.fromkeys(available))
    groups = {spelling: group for group in SPELLINGS for spelling in group}
    found: list[str | None] = []
    for name in wanted:
        if name in there:
            found.append(name)
            continue
        others = [other for other in groups.get(name, ()) if other in there]
        if len(others) > 1:
            raise ConflictError(f"{name} could be {' or '.join(others)}", "rename one of them in the affinity matrix")
        found.append(others[0] if others else None)
    return found
