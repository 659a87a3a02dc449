"""Alternative spellings of task names, and how the names of two tables are matched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelspace.errors import ConflictError

#: Spellings of each task, that of Taskonomy's published order first. Sources: the two result tables of Zamir et al.
#: 2018, whose names differ in three places, and the names of the released pretrained encoders (visualpriors).
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


def match(names: Sequence[str], available: Iterable[str]) -> list[str | None]:
    """For each name the one of `available` that means the same model, or None.

    An identical name is preferred; otherwise another spelling of the same task (`SPELLINGS`) matches.

    Raises:
        ConflictError: a name is not in `available`, but two other spellings of it are.

    >>> match(["vanishing_point", "jigsaw"], ["vanishing_point_well_defined", "reshade"])
    ['vanishing_point_well_defined', None]
    """
    candidates = set(available)
    groups = {spelling: group for group in SPELLINGS for spelling in group}
    matches: list[str | None] = []
    for name in names:
        if name in candidates:
            matches.append(name)
            continue
        others = [other for other in groups.get(name, ()) if other in candidates]
        if len(others) > 1:
            raise ConflictError(f"{name} could be {' or '.join(others)}", "rename one of them in the affinity matrix")
        matches.append(others[0] if others else None)
    return matches
