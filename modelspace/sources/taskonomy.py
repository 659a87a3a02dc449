"""``taskonomy:NAME``: the encoders of Taskonomy (Zamir et al., CVPR 2018), from the weights published for PyTorch.

The encoder is a ResNet-50 that maps a 256 x 256 image to 8 x 16 x 16, with three changes: a stage is subsampled in its
last block instead of its first, where the shortcut takes every second pixel; the fourth stage is not subsampled; and a
3 x 3 convolution to 8 channels with batch norm and ReLU replaces the pooling and the classifier. The first convolution
is padded by 3 on all sides; the first pooling is not padded, and rounds its size up. Inputs are in -1..1.

The weights are not part of modelspace. The files are named after their SHA-256, which is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from modelspace.deprecated import renamed
from modelspace.errors import ConflictError, DamagedError, NotFoundError
from modelspace.evaluation.names import match
from modelspace.files import expanded, is_regular, open_regular
from modelspace.names import did_you_mean
from modelspace.sources.base import LoadedModel, PreprocessingFlags, describe
from modelspace.sources.weights import load_weights
from modelspace.types import Preprocessing

PREPROCESSING = Preprocessing.raw((256, 256), value_range=(-1.0, 1.0))

#: The weights in PyTorch's format, published by the authors of "Mid-level visual representations" (Sax et al. 2018).
URL = "https://github.com/alexsax/visual-prior/raw/networks/assets/pytorch/"


@dataclass(frozen=True)
class Encoder:
    """One published encoder.

    Attributes:
        name: its name among the files for PyTorch.
        original: its name among Taskonomy's own models, for TensorFlow.
        sha256: of the published file; part of its name.
    """

    name: str
    original: str
    sha256: str

    @property
    def file(self) -> str:
        """The name of the published file."""
        return f"{self.name}_encoder-{self.sha256}.pth"


#: The encoders of the 20 tasks of the transfer experiment: file name, original name, SHA-256. The tasks on several
#: images (camera pose, egomotion, jigsaw, matching) take other inputs and are left out.
_TABLE = """
autoencoding     autoencoder      e35146c09253720e97c0a7f8ee4e896ac931f5faa1449df003d81e6089ac6307
class_object     class_1000       4a4e42dad58066039a0d2f9d128bb32e93a7e4aa52edb2d2a07bcdd1a6536c18
class_scene      class_places     ad85764467cddafd98211313ceddebb98adf2a6bee2cedfe0b922a37ae65eaf8
colorization     colorization     5ed817acdd28d13e443d98ad15ebe1c3059a3252396a2dff6a2090f6f86616a5
curvature        curvature        3767cf5d06d9c6bca859631eb5a3c368d66abeb15542171b94188ffbe47d7571
denoising        denoise          b64cab95af4a2c565066a7e8effaf37d6586c3b9389b47fff9376478d849db38
depth_euclidean  rgb2mist         88f18d41313de7dbc88314a7f0feec3023047303d94d73eb8622dc40334ef149
depth_zbuffer    rgb2depth        cc343a8ed622fd7ee3ce54398be8682bbbbfb5d11fa80e8d03a56a5ae4e11b09
edge_occlusion   edge3d           5ac3f3e918131f61e01fe95e49f462ae2fc56aa463f8d353ca84cd4e248b9c08
edge_texture     edge2d           be2d686a6a4dfebe968d16146a17176eba37e29f736d5cd9a714317c93718810
inpainting       inpainting_whole bf96fbaaea9268a820a19a1d13dbf6af31798f8983c6d9203c00fab2d236a142
keypoints2d      keypoint2d       6b77695acff4c84091c484a7b128a1e28a7e9c36243eda278598f582cf667fe0
keypoints3d      keypoint3d       7e3f1ec97b82ae30030b7ea4fec2dc606b71497d8c0335d05f0be3dc909d000d
normal           rgb2sfnorm       f5e2c7737e4948e3b2a822f584892c342eaabbe66661576ba50db7cdd40561c5
reshading        reshade          de456246e171dc8407fb2951539aa60d75925ae0f1dbb43f110b7768398b36a6
room_layout      room_layout      1e1662f43b834261464b1825227a04efba59b50cc8883bee9adc3ddafd4796c1
segment_semantic segmentsemantic  bb3007244520fc89cd111e099744a22b1e5c98cd83ed3f116fbff6376d220127
segment_unsup25d segment25d       7d12d2500c18c003ffc23943214f5dfd74932f0e3d03dde2c3a81ebc406e31a0
segment_unsup2d  segment2d        b679053a920e8bcabf0cd454606098ae85341e054080f2be29473971d4265964
vanishing_point  vanishing_point  afd2ae9b71d46a54efc5231b3e38ebc3e35bfab78cb0a78d9b75863a240b19a8
"""
ENCODERS: dict[str, Encoder] = {row[0]: Encoder(*row) for row in map(str.split, _TABLE.split("\n")[1:-1])}

#: Ambiguous names: Taskonomy's papers and files use "depth" for both depth tasks.
_AMBIGUOUS = {"depth": ("depth_zbuffer", "depth_euclidean"), "mist": ("depth_euclidean", "depth_zbuffer")}


def load(name: str, weights: str | None, flags: PreprocessingFlags) -> LoadedModel:
    """Load an encoder from a file of weights: `weights`, or the published file in torch's cache.

    If the file's name ends in a hash, as in ``normal_encoder-f5e2c773.pth``, its SHA-256 must begin with it.
    Other weights for this architecture are accepted unchecked.

    Raises:
        NotFoundError: there is no such encoder, or its weights are missing; says what to download and where to put it.
        DamagedError: the file does not match the hash in its name.
        ModelspaceError: the weights don't fit the architecture.
    """
    encoder = find(name)
    file = expanded(Path(weights)) if weights is not None else cache_path(encoder)
    digest = check_name(file) if is_regular(file) else ""
    if weights is None and not digest:
        raise NotFoundError(
            f"the weights of taskonomy:{encoder.name} are missing: {encoder.file}",
            f"download {URL}{encoder.file} to {file.parent}, or name the file with `weights=file`",
        )
    module = TaskonomyEncoder().eval()
    taken = load_weights(module, weights if weights is not None else str(file))
    names = {entry.sha256: entry.name for entry in ENCODERS.values()}
    if names.get(digest, encoder.name) != encoder.name:
        raise ConflictError(
            f"{file} holds the encoder {names[digest]}, not {encoder.name}", f"use taskonomy:{names[digest]}"
        )
    tags = {"file_sha256": digest, "published": "yes" if digest == encoder.sha256 else "no"}
    if weights is not None:
        tags["weights"] = taken.tags["weights"]
    return describe(
        module,
        uri=f"taskonomy:{encoder.name}",
        name=encoder.name,
        flags=flags,
        preprocessing=PREPROCESSING,
        architecture="TaskonomyEncoder",
        layer="output",
        task=encoder.original,
        data="taskonomy",
        tags=tags,
        notes=taken.notes if weights is not None else (),
    )


def find(name: str) -> Encoder:
    """The encoder of a name: the published one, Taskonomy's own, or a spelling known to `modelspace.evaluation.names`.

    Raises:
        NotFoundError: no such encoder, or the name is ambiguous.

    >>> find("rgb2mist").name, find("normals").name
    ('depth_euclidean', 'normal')
    """
    if name in _AMBIGUOUS:
        names = " or ".join(f"taskonomy:{entry}" for entry in _AMBIGUOUS[name])
        raise NotFoundError(f"taskonomy:{name} is ambiguous: two encoders have this name", f"use {names}")
    originals = {entry.original: entry for entry in ENCODERS.values()}
    published = match([name], ENCODERS)[0] if name not in originals else originals[name].name
    if published is None:
        hint = did_you_mean(name, [*ENCODERS, *originals], f"it has {', '.join(ENCODERS)}")
        raise NotFoundError(f"Taskonomy has no encoder called {name!r}", hint)
    return ENCODERS[published]


def cache_path(encoder: Encoder) -> Path:
    """Where torch.hub keeps the downloaded file: ``checkpoints`` in TORCH_HOME/hub."""
    return Path(torch.hub.get_dir()) / "checkpoints" / encoder.file


def check_name(file: Path) -> str:
    """A file's SHA-256, checked against the hash at the end of its name, if there is one (torch.hub's convention).

    Raises:
        DamagedError: they differ.
    """
    digest = hashlib.sha256()
    with open_regular(file) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    suffix = re.search(r"-([0-9a-f]{8,64})\.[^.]+$", os.fspath(file.name))
    if suffix and not digest.hexdigest().startswith(suffix[1]):
        raise DamagedError(
            f"{file} does not match the hash in its name: its SHA-256 is {digest.hexdigest()}",
            "it is damaged or was replaced; download it again",
        )
    return digest.hexdigest()


# --- the architecture


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with a shortcut, named as in the published weights."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )
        elif stride > 1:
            self.downsample = nn.MaxPool2d(1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 channels, H / stride, W / stride)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(inner)) + shortcut)  # type: ignore[no-any-return]


class TaskonomyEncoder(nn.Module):
    """(B, 3, 256, 256) in -1..1 -> (B, 8, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.layer1 = _stage(64, 64, 3, last_stride=2)
        self.layer2 = _stage(256, 128, 4, last_stride=2)
        self.layer3 = _stage(512, 256, 6)
        self.layer4 = _stage(1024, 512, 3)
        self.compress1 = nn.Conv2d(2048, 8, 3, 1, 1, bias=False)
        self.compress_bn = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """The encoder output."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.relu1(self.compress_bn(self.compress1(x)))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, blocks: int, last_stride: int = 1) -> nn.Sequential:
    inner = [Bottleneck(4 * channels, channels) for _ in range(blocks - 2)]
    return nn.Sequential(Bottleneck(in_channels, channels), *inner, Bottleneck(4 * channels, channels, last_stride))


__getattr__ = renamed(__name__, {"cached": "cache_path"})
