"""Small networks with the outputs of detectors, recognisers and segmenters, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, size // 2, bias=False), nn.BatchNorm2d(outside), nn.SiLU()
    )


# --- detectors


class Detect(nn.Module):
    """The head of YOLOv8: boxes as distributions over bins, classes, three scales."""

    def __init__(self, classes: int, widths: list[int], decoded: bool) -> None:
        super().__init__()
        self.classes, self.bins, self.decoded = classes, 4, decoded
        self.cv2 = nn.ModuleList(
            nn.Sequential(conv(w, 16), conv(16, 16), nn.Conv2d(16, 4 * self.bins, 1)) for w in widths
        )
        self.cv3 = nn.ModuleList(nn.Sequential(conv(w, 16), conv(16, 16), nn.Conv2d(16, classes, 1)) for w in widths)
        self.dfl = nn.Conv2d(self.bins, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(self.bins, dtype=torch.float32).view(1, -1, 1, 1)

    def forward(self, x: list[Tensor]) -> Any:
        raw = [torch.cat((box(f), score(f)), 1) for f, box, score in zip(x, self.cv2, self.cv3, strict=True)]
        if not self.decoded:
            return raw
        joined = torch.cat([each.flatten(2) for each in raw], 2)
        box, score = joined.split((4 * self.bins, self.classes), 1)
        sides = self.dfl(box.view(len(box), 4, self.bins, -1).transpose(2, 1).softmax(1)).view(len(box), 4, -1)
        anchors = torch.arange(sides.shape[2], device=sides.device).to(sides) / sides.shape[2]
        near, far = sides.chunk(2, 1)
        corners = torch.cat(((anchors - near + anchors + far) / 2, anchors + far - (anchors - near)), 1) * 8
        return torch.cat((corners, score.sigmoid()), 1), raw


class Yolo(nn.Module):
    """Backbone, a path down and up, `Detect`: a flat list of layers, as in ultralytics."""

    def __init__(self, decoded: bool = True) -> None:
        super().__init__()
        layers = [conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, 16, 3, 2), conv(16, 24, 3, 2), conv(24, 32, 3, 2)]
        layers += [conv(56, 24), conv(40, 16), conv(16, 24, 3, 2), conv(48, 24), conv(24, 32, 3, 2), conv(64, 32)]
        self.model = nn.ModuleList([*layers, Detect(5, [16, 24, 32], decoded)])

    def forward(self, x: Tensor) -> Any:
        m = self.model
        p3 = m[2](m[1](m[0](x)))
        p4 = m[3](p3)
        p5 = m[4](p4)
        n4 = m[5](torch.cat((F.interpolate(p5, scale_factor=2), p4), 1))
        n3 = m[6](torch.cat((F.interpolate(n4, scale_factor=2), p3), 1))
        o4 = m[8](torch.cat((m[7](n3), n4), 1))
        o5 = m[10](torch.cat((m[9](o4), p5), 1))
        return m[11]([n3, o4, o5])


class OldYolo(nn.Module):
    """Like YOLOv5: one map per scale with anchors as an axis, sigmoid, boxes from squares of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 8, 3, 4), conv(8, 16, 3, 2)
        self.head = nn.ModuleList([nn.Conv2d(8, 3 * 7, 1), nn.Conv2d(16, 3 * 7, 1)])

    def forward(self, x: Tensor) -> Any:
        fine = self.stem(x)
        raw, flat = [], []
        for feature, head in zip((fine, self.deep(fine)), self.head, strict=True):
            y = head(feature)
            b, _, h, w = y.shape
            y = y.view(b, 3, 7, h, w).permute(0, 1, 3, 4, 2).contiguous()
            raw.append(y)
            xy, wh, rest = y.sigmoid().split((2, 2, 3), 4)
            flat.append(torch.cat(((xy * 2 - 0.5) * 8, (wh * 2) ** 2 * 4, rest), 4).view(b, -1, 7))
        return torch.cat(flat, 1), raw


class RetinaNet(nn.Module):
    """Shared heads over a pyramid: lists of classes and of boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.c3, self.c4 = conv(3, 8, 3, 4), conv(8, 16, 3, 2)
        self.lateral3, self.lateral4 = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.cls_tower, self.box_tower = conv(8, 8), conv(8, 8)
        self.cls_logits, self.bbox_pred = nn.Conv2d(8, 9, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        c3 = self.c3(x)
        p4 = self.lateral4(self.c4(c3))
        p3 = self.lateral3(c3) + F.interpolate(p4, scale_factor=2)
        classes = [self.cls_logits(self.cls_tower(p)) for p in (p3, p4)]
        return classes, [F.relu(self.bbox_pred(self.box_tower(p))) for p in (p3, p4)]


class CenterNet(nn.Module):
    """A list with one dictionary of maps: heat, sizes, offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2))
        for name, width in (("hm", 5), ("wh", 2), ("reg", 2)):
            setattr(self, name, nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, width, 1)))

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        x = self.base(x)
        return [{"hm": self.hm(x).sigmoid(), "wh": self.wh(x), "reg": self.reg(x)}]


class Detr(nn.Module):
    """Backbone, transformer, two heads; plain names."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8, 3, 4), conv(8, width, 3, 2))
        self.queries = nn.Parameter(torch.randn(5, width))
        layer: dict[str, Any] = {"dim_feedforward": 32, "batch_first": True, "dropout": 0.0}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 2, **layer), 1)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, 2, **layer), 1)
        self.class_embed, self.bbox_embed = (
            nn.Linear(width, 4),
            nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 4)),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        memory = self.encoder(self.backbone(x).flatten(2).transpose(1, 2))
        hidden = self.decoder(self.queries.expand(len(x), -1, -1), memory)
        return {"pred_logits": self.class_embed(hidden), "pred_boxes": self.bbox_embed(hidden).sigmoid()}


class Pnet(nn.Module):
    """The first network of MTCNN: boxes, and probabilities behind a softmax, at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 10, 3), nn.PReLU(10), nn.MaxPool2d(2), nn.Conv2d(10, 16, 3), nn.PReLU(16)
        )
        self.conv4_1, self.conv4_2 = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.conv4_2(x), self.conv4_1(x).softmax(1)


# --- text


class TextDetector(nn.Module):
    """Like DBNet: features of several scales joined, then upsampled by transposed convolutions, then a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2 = conv(3, 8, 3, 4), conv(8, 16, 3, 2)
        self.fuse = conv(24, 16)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.ConvTranspose2d(8, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stage1(x)
        deep = F.interpolate(self.stage2(fine), scale_factor=2)
        return self.last(self.up(self.fuse(torch.cat((fine, deep), 1)))).sigmoid()


class Recogniser(nn.Module):
    """(B, L, classes) behind a softmax or log-softmax."""

    def __init__(self, classes: int = 40, log: bool = False) -> None:
        super().__init__()
        self.log = log
        self.body = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), nn.AdaptiveAvgPool2d((1, 10)))
        self.fc = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.body(x).squeeze(2).transpose(1, 2))
        return F.log_softmax(y, -1) if self.log else F.softmax(y, -1)


class Crnn(nn.Module):
    """Convolutions, a recurrent part, a linear map: time-major like torch's layers, or batch-major."""

    def __init__(self, batch_first: bool = False, squash: bool = True) -> None:
        super().__init__()
        self.batch_first, self.squash = batch_first, squash
        self.cnn = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), nn.AdaptiveAvgPool2d((1, None)))
        self.rnn = nn.LSTM(12, 6, bidirectional=True, batch_first=batch_first)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cnn(x).squeeze(2).permute(*((0, 2, 1) if self.batch_first else (2, 0, 1)))
        y = self.fc(self.rnn(x)[0])
        return F.log_softmax(y, 2) if self.squash else y


# --- dense predictions


class Unet(nn.Module):
    """Down and up with a shortcut; no module is called an encoder."""

    def __init__(self, squash: bool = True, name: str = "outc") -> None:
        super().__init__()
        self.squash, self.name = squash, name
        self.inc, self.down, self.up = conv(3, 8), conv(8, 16, 3, 2), conv(24, 8)
        self.add_module(name, nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.inc(x)
        y = self.up(torch.cat((fine, F.interpolate(self.down(fine), scale_factor=2)), 1))
        y = self.get_submodule(self.name)(y)
        return y.sigmoid() if self.squash else y


class EncoderDecoder(nn.Module):
    """The encoder gives a list of feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Pyramid()
        self.decoder = nn.ModuleList([conv(16, 8), conv(16, 8)])
        self.segmentation_head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine, deep = self.encoder(x)
        y = torch.cat((fine, F.interpolate(self.decoder[0](deep), scale_factor=2)), 1)
        return F.interpolate(self.segmentation_head(self.decoder[1](y)), scale_factor=4, mode="bilinear")


class Pyramid(nn.Module):
    """A backbone alone: feature maps as a list, or as a tuple with the deepest first."""

    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse
        self.stage1, self.stage2 = conv(3, 8, 3, 4), conv(8, 16, 3, 2)

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, ...]:
        fine = self.stage1(x)
        deep = self.stage2(fine)
        return (deep, fine) if self.reverse else [fine, deep]


class Argmax(nn.Module):
    """Integers: the class of each image, or of each pixel."""

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.dense = dense
        self.body, self.head = conv(3, 8, 3, 2), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.body(x))
        return y.argmax(1) if self.dense else y.mean((2, 3)).argmax(1)


class Score(nn.Module):
    """One number per image, (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.f = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.c(x).relu().mean((2, 3))).squeeze(1)


class Packed(nn.Module):
    """A mapping whose first entries are not features: integers, and numbers that don't depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.f = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            "image_size": torch.tensor([[32, 32]] * len(x)),
            "scale": torch.ones(len(x), 2),
            "embedding": self.f(self.c(x).relu().mean((2, 3))).tanh(),
        }


# --- what can't be given images


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.c(x * mask)


class LateMask(nn.Module):
    """The second input is optional only by its signature."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.c(x) * mask.mean()


class KeywordOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        return self.c(pixel_values)


class Video(nn.Module):
    """(B, T, C, H, W), the mean over frames."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, clip: Tensor) -> Tensor:
        b, t, c, h, w = clip.shape
        return self.fc(self.c(clip.reshape(b * t, c, h, w)).mean((2, 3)).view(b, t, -1).mean(1))


class Nested(nn.Module):
    """Takes a list of tensors in an object."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, samples: Any) -> Tensor:
        return self.c(samples.tensors)


class Mapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)

    def forward(self, batch: Any) -> Tensor:
        return self.c(batch["image"])


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.fc(self.words(input_ids).mean(1))
