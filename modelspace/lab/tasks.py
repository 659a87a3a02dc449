"""The twenty single-image tasks of Taskonomy, adapted to rendered rooms.

Names and groups are those of Zamir et al., "Taskonomy" (CVPR 2018; labels: its supplement, section "Task
dictionary"), as spelled in the published transfer orders. Each definition below states how it differs from the
original. Dense labels have half the input's resolution. Lengths in an image are fractions of its side, so that the
definitions do not depend on the input size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.errors import NotFoundError
from modelspace.lab.patterns import FlatRender
from modelspace.worlds.raycast import Render
from modelspace.worlds.room_scenes import OBJECTS, PLACES
from modelspace.worlds.rooms import SEMANTIC

#: Kinds of output: an image at half the input's resolution, a vector, a class, or a class per pixel at half resolution.
DENSE, VECTOR, CLASS, CLASS_MAP = "dense", "vector", "class", "class_map"

GROUPS = ("2D", "3D", "geometric", "semantic")

Label = Callable[[Any], Tensor]  # of a Render, or of a FlatRender for the tasks about faces
Corruption = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as in Taskonomy.
        group: one of `GROUPS`.
        kind: one of DENSE, VECTOR, CLASS, CLASS_MAP.
        outputs: number of channels, values or classes to predict.
        label: maps a `Render` of B scenes to (B, outputs, S/2, S/2) float32, (B, outputs) float32, (B,) int64 or
            (B, S/2, S/2) int64, depending on the kind.
        corrupt: corrupts input images (B, 3, S, S) in [0, 1], with noise from a generator.
    """

    name: str
    group: str
    kind: str
    outputs: int
    label: Label
    corrupt: Corruption | None = None

    @property
    def classifies(self) -> bool:
        """Whether the output is a class."""
        return self.kind in (CLASS, CLASS_MAP)

    @property
    def definition(self) -> str:
        """The label's definition, and how it differs from the original."""
        return " ".join((self.label.__doc__ or "").split())

    def loss(self, predicted: Tensor, label: Tensor) -> Tensor:
        """Scalar: mean squared error of normalised labels, or mean cross-entropy in nats."""
        return F.cross_entropy(predicted, label) if self.classifies else F.mse_loss(predicted, label)


def luma(rgb: Tensor) -> Tensor:
    """(B, 1, S, S): ITU-R BT.601 luma."""
    return (rgb * rgb.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _half(image: Tensor) -> Tensor:
    return F.avg_pool2d(image, 2)


def _blur(image: Tensor) -> Tensor:
    """3 x 3 binomial filter with replicated borders."""
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    image = (image[..., :-2, :] + 2 * image[..., 1:-1, :] + image[..., 2:, :]) / 4
    return (image[..., :-2] + 2 * image[..., 1:-1] + image[..., 2:]) / 4


def _slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y, per pixel, with replicated borders."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _spread(image: Tensor) -> Tensor:
    """Mean over 5 x 5 pixels."""
    return F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)


def _neighbours(image: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(B, 4, S, S): `compare` of each pixel with those S/16 and S/6 to the right and below, with replicated borders."""
    side = image.shape[-1]
    out = []
    for reach in (max(1, side // 16), max(1, side // 6)):
        wide = F.pad(image.float(), (0, reach, 0, reach), mode="replicate")
        out.append(compare(image, wide[..., :side, reach:]))
        out.append(compare(image, wide[..., reach:, :side]))
    return torch.cat(out, 1)


def _image(r: Render | FlatRender) -> Tensor:
    """The image itself, at half resolution, as in the original for the autoencoder, denoiser and inpainter."""
    return _half(r.rgb)


def _chroma(r: Render) -> Tensor:
    """Blue and red minus luma (BT.601), predicted from the gray image.

    The original classifies bins of ab colours (Zhang et al. 2016); here both values are regressed.
    """
    gray = luma(r.rgb)
    return _half(torch.cat([r.rgb[:, 2:] - gray, r.rgb[:, :1] - gray], 1))


def _edge2d(r: Render) -> Tensor:
    """Gradient magnitude of the blurred luma, as in the original: a Canny detector without non-maximum suppression."""
    x, y = _slopes(_blur(luma(r.rgb)))
    return _half((x * x + y * y).sqrt())


def _keypoint2d(r: Render) -> Tensor:
    """Fourth root of |det Hessian| of the blurred luma, averaged over 5 x 5 pixels.

    The original blurs SURF responses (Bay et al. 2006), which approximate the same determinant over several scales;
    here there is one scale.
    """
    x, y = _slopes(_blur(_blur(luma(r.rgb))))
    (xx, xy), (_, yy) = _slopes(x), _slopes(y)
    return _half(_spread((xx * yy - xy * xy).abs()).sqrt().sqrt())


def _segment2d(r: Render) -> Tensor:
    """Colour affinities exp(-|d|^2 / 0.08), d the RGB difference of the blurred image to four neighbours.

    The neighbours are S/16 and S/6 to the right and below. Normalised cuts (Shi and Malik 2000), which label the
    original, start from these affinities.
    """
    smooth = _blur(_blur(r.rgb))
    return _half(_neighbours(smooth, lambda a, b: (-((a - b) ** 2).sum(1, keepdim=True) / 0.08).exp()))


def _log_distance(r: Render) -> Tensor:
    """Log of the distance to the camera in metres, as in the original."""
    return _half(r.distance.log()[:, None])


def _log_zdepth(r: Render) -> Tensor:
    """Log of the distance along the viewing axis in metres, as the original's z-buffer depth."""
    return _half(r.zdepth.log()[:, None])


def _normals(r: Render) -> Tensor:
    """Unit surface normals in the camera frame, averaged over 2 x 2 pixels, as in the original."""
    return _half(r.normals)


def _edge3d(r: Render) -> Tensor:
    """Gradient magnitude of the log distance per pixel, at most 0.5.

    The original: occlusion edges of the depth image, by a Canny detector without suppression.
    """
    x, y = _slopes(r.distance.log()[:, None])
    return _half((x * x + y * y).sqrt().clamp_max(0.5))


def _keypoint3d(r: Render) -> Tensor:
    """Fourth root, at most 0.6, of the smaller eigenvalue of the log distance's structure tensor over 5 x 5 pixels.

    The original uses NARF (Steder et al. 2011), which also finds corners of range images.
    """
    x, y = _slopes(r.distance.log()[:, None])
    xx, yy, xy = _spread(x * x), _spread(y * y), _spread(x * y)
    small = (xx + yy) / 2 - (((xx - yy) / 2) ** 2 + xy * xy).sqrt()
    return _half(small.clamp_min(0).sqrt().sqrt().clamp_max(0.6))


def _reshade(r: Render) -> Tensor:
    """Shading cos(angle) / (1 + (d/2)^2), with the angle between normal and viewing ray, and d in metres.

    A white Lambertian room lit from the camera, as in the original, with a bounded fall-off.
    """
    reach = (r.fov / 2).tan()
    side = r.rgb.shape[-1]
    steps = (torch.arange(side, device=reach.device) + 0.5) / side * 2 - 1
    x = (steps * reach[:, None])[:, None, :].expand(-1, side, -1)
    y = (-steps * reach[:, None])[:, :, None].expand(-1, -1, side)
    ray = torch.stack([x, y, torch.ones_like(x)], 1)
    cosine = -(ray * r.normals).sum(1) / ray.norm(dim=1)
    return _half((cosine.clamp_min(0) / (1 + (r.distance / 2) ** 2))[:, None])


def _curvature(r: Render) -> Tensor:
    """log(1 + k) of both principal curvatures k in 1/metre.

    The original estimates them on meshes, where furniture edges are curved; here they are analytic, and zero on planes.
    """
    return _half(torch.log1p(r.curvature.clamp(0, 20)))


def _segment25d(r: Render) -> Tensor:
    """Whether four neighbours (S/16 and S/6 right and down) lie on the same planar or curved surface.

    The original segments depth, normals and occlusion edges without supervision. In neither is paint on a wall a
    boundary.
    """
    return _half(_neighbours(r.surface_id[:, None], lambda a, b: (a == b).float()))


def _room_layout(r: Render) -> Tensor:
    """Log distances in metres from the camera to the front, back, left and right wall, floor and ceiling.

    The original regresses centre, size and rotation of the box; here the rotation is part of vanishing_point.
    """
    return r.layout.clamp_min(0.05).log()


def _vanishing_point(r: Render) -> Tensor:
    """Camera-frame unit directions of the room's three axes (front, right, up): nine numbers.

    The original classifies them into bins of the Gaussian sphere; here they are regressed.
    """
    return r.vanishing.flatten(1)


def _semantic(r: Render) -> Tensor:
    """Wall, floor, ceiling, window, door, picture or one of the object classes, per pixel.

    The original distils a network trained on COCO; here the labels are ground truth.
    """
    return r.semantic[:, ::2, ::2].long()


def _object_class(r: Render) -> Tensor:
    """Class of the object that the camera looks at.

    The original distils an ImageNet classifier of 1,000 classes; here the labels are ground truth of eight classes.
    """
    return r.object_class


def _place(r: Render) -> Tensor:
    """Class of the room.

    The original distils a classifier trained on Places; here the labels are ground truth of six classes.
    """
    return r.place


def _face_map(r: FlatRender) -> Tensor:
    """Whether a pixel is on a face, and its face coordinates.

    PRN (Feng et al. 2018) regresses the image positions of a face's texture; here the inverse, from pixel to face.
    """
    return _half(r.face)


def _face_heat(r: FlatRender) -> Tensor:
    """A Gaussian at each face's centre, as wide as the face.

    Tiny Face (Hu and Ramanan 2017) scores boxes of fixed sizes; here there is one heat map.
    """
    return _half(r.heat)


def add_noise(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of standard deviation 0.25, clipped to [0, 1]."""
    return (rgb + 0.25 * torch.randn(rgb.shape, generator=generator).to(rgb)).clamp(0, 1)


def cut_holes(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Replace three random squares of S/4 x S/4 per image by gray 0.5, independently for each image."""
    count, _, side, _ = rgb.shape
    hole = side // 4
    corners = torch.randint(0, side - hole + 1, (count, 3, 2), generator=generator).to(rgb.device)
    steps = torch.arange(side, device=rgb.device)
    inside = (steps >= corners[..., None]) & (steps < corners[..., None] + hole)  # (B, 3, 2, S)
    masked = (inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(1, keepdim=True)
    return torch.where(masked, 0.5, rgb)


def to_gray(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """The luma in all three channels."""
    return luma(rgb).expand(-1, 3, -1, -1).contiguous()


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("autoencoder", "2D", DENSE, 3, _image),
        Task("curvature", "3D", DENSE, 2, _curvature),
        Task("denoise", "2D", DENSE, 3, _image, add_noise),
        Task("edge2d", "2D", DENSE, 1, _edge2d),
        Task("edge3d", "3D", DENSE, 1, _edge3d),
        Task("keypoint2d", "2D", DENSE, 1, _keypoint2d),
        Task("keypoint3d", "3D", DENSE, 1, _keypoint3d),
        Task("colorization", "2D", DENSE, 2, _chroma, to_gray),
        Task("reshade", "3D", DENSE, 1, _reshade),
        Task("rgb2depth", "3D", DENSE, 1, _log_distance),
        Task("rgb2mist", "3D", DENSE, 1, _log_zdepth),
        Task("rgb2sfnorm", "3D", DENSE, 3, _normals),
        Task("room_layout", "geometric", VECTOR, 6, _room_layout),
        Task("segment25d", "3D", DENSE, 4, _segment25d),
        Task("segment2d", "2D", DENSE, 4, _segment2d),
        Task("vanishing_point", "geometric", VECTOR, 9, _vanishing_point),
        Task("segmentsemantic", "semantic", CLASS_MAP, len(SEMANTIC), _semantic),
        Task("class_1000", "semantic", CLASS, len(OBJECTS), _object_class),
        Task("class_places", "semantic", CLASS, len(PLACES), _place),
        Task("inpainting_whole", "2D", DENSE, 3, _image, cut_holes),
    )
}


#: Tasks of the paper's other models, which Taskonomy does not have.
FACE_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("face_alignment", "geometric", DENSE, 3, _face_map),
        Task("face_detection", "semantic", DENSE, 1, _face_heat),
    )
}


def task(name: str) -> Task:
    """The task of this name.

    Raises:
        NotFoundError: there is none.
    """
    tasks = {**TASKS, **FACE_TASKS}
    if name not in tasks:
        raise NotFoundError(f"there is no task {name!r}", f"the tasks are {', '.join(tasks)}")
    return tasks[name]


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(1, -1, *([1] * (like.dim() - 2)))


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of a label, one pair per channel, measured once on the training images."""

    mean: Tensor
    std: Tensor

    @classmethod
    def measure(cls, label: Tensor) -> Scaling:
        """Measure them on labels (B, n, ...) float32."""
        flat = label.double().transpose(0, 1).flatten(1)
        return cls(flat.mean(1).float(), flat.std(1).clamp_min(1e-6).float())

    def apply(self, label: Tensor) -> Tensor:
        """Standardise labels to mean 0 and standard deviation 1 over the training images, as the losses expect."""
        return (label - _channels(self.mean, label)) / _channels(self.std, label)


@dataclass(frozen=True)
class Constant:
    """The best constant prediction: zeros after scaling, or the class frequencies in training."""

    output: Tensor  # (outputs,): values, or log frequencies

    @classmethod
    def fit(cls, task: Task, label: Tensor) -> Constant:
        """Fit it to training labels."""
        if not task.classifies:
            return cls(torch.zeros(task.outputs))
        shares = torch.bincount(label.flatten().cpu(), minlength=task.outputs).double() + 1
        return cls((shares / shares.sum()).log().float())

    def loss(self, task: Task, label: Tensor) -> float:
        """Its loss on these labels."""
        shape = (label.shape[0], task.outputs, *label.shape[1 if task.classifies else 2 :])
        return float(task.loss(_channels(self.output, torch.empty(shape)).to(label.device).expand(shape), label))

    def accuracy(self, label: Tensor) -> float:
        """Its accuracy: the share of labels that equal the most frequent class in training."""
        return float((label == int(self.output.argmax())).double().mean())
