"""T by structure: which tensor is chosen, why, and which others are named; of networks as people have them."""

from __future__ import annotations

import pytest
import structured_nets as nets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.encoder.layers import LayerRow, Survey, before_last, executed_layers, find_encoder_output, survey
from modelspace.errors import EmbeddingError, NotFoundError

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

COARSEST = "the last layer before the 2 last linear maps of the coarsest of {} scales"
BEFORE = "input of the last linear map"
CRNN = (
    "the last layer before the last linear map; "
    "the output itself can't be explained: its first axis, 16, is not the batch"
)

#: Network, T, why, and the other candidates in order.
CHOICES = {
    "yolo": (
        nets.Yolo(),
        "model.10",
        f"{COARSEST.format(3)}; the output is behind a sigmoid and a softmax",
        ["model.8", "model.6", "output", "output:1.0", "output:1.1", "output:1.2"],
    ),
    "yolo in training form": (
        nets.Yolo(decoded=False),
        "model.10",
        f"{COARSEST.format(3)}; the output joins several heads",
        ["model.8", "model.6", "output", "output:0", "output:1"],
    ),
    "old yolo": (
        nets.OldYolo(),
        "head.1:in",
        f"{BEFORE} of the coarsest of 2 scales; the output is behind a sigmoid",
        ["head.0:in", "output", "output:1.0", "output:1.1"],
    ),
    "retinanet": (
        nets.RetinaNet(),
        "lateral4",
        f"{COARSEST.format(2)}; the output joins several heads",
        ["c3", "output", "output:0.0", "output:1.0", "output:1.1"],
    ),
    "centernet": (
        nets.CenterNet(),
        "base",
        "the last layer before the 3 last linear maps; the output is behind a sigmoid",
        ["output", "output:0.wh", "output:0.reg"],
    ),
    "detr": (
        nets.Detr(),
        "encoder",
        "output of encoder; the output is behind a sigmoid",
        ["backbone", "decoder", "output", "output:pred_boxes"],
    ),
    "p-net": (
        nets.Pnet(),
        "body",
        "the last layer before the 2 last linear maps; the output is behind a softmax",
        ["output", "output:1"],
    ),
    "text detector": (nets.TextDetector(), "last:in", f"{BEFORE}; the output is behind a sigmoid", ["output"]),
    "recogniser": (nets.Recogniser(), "fc:in", f"{BEFORE}; the output is behind a softmax", ["output"]),
    "log-softmax": (nets.Recogniser(log=True), "fc:in", f"{BEFORE}; the output is behind a log-softmax", ["output"]),
    "crnn": (nets.Crnn(), "cnn", CRNN, []),
    "crnn without softmax": (nets.Crnn(squash=False), "cnn", CRNN, []),
    "crnn, batch first": (nets.Crnn(True), "fc:in", f"{BEFORE}; the output is behind a log-softmax", ["output"]),
    "crnn, batch first, without softmax": (
        nets.Crnn(True, squash=False),
        "fc:in",
        f"{BEFORE}; it is a linear map of a recurrent layer",
        ["output"],
    ),
    "u-net": (nets.Unet(), "outc:in", f"{BEFORE}; the output is behind a sigmoid", ["output"]),
    "u-net with a head": (
        nets.Unet(squash=False, name="seg_head"),
        "seg_head:in",
        f"{BEFORE}; the output is that of seg_head",
        ["output"],
    ),
    # nothing says that these are predictions
    "u-net of plain names": (
        nets.Unet(squash=False, name="last"),
        "output",
        "output: it has shape (3, 64, 64) per image, which are no class scores",
        ["last:in"],
    ),
    "encoder and decoder": (
        nets.EncoderDecoder(),
        "encoder",
        "output of encoder, the deepest of 2; a decoder follows it",
        ["segmentation_head:in", "output"],
    ),
    "pyramid": (nets.Pyramid(), "output", "output: the deepest of 2 feature maps", ["stage1"]),
    "pyramid, deepest first": (
        nets.Pyramid(reverse=True),
        "output",
        "output: the deepest of 2 feature maps",
        ["stage1"],
    ),
    "labels": (
        nets.Argmax(),
        "head:in",
        f"{BEFORE}; the output itself can't be explained: its type is int64, which has no gradient",
        [],
    ),
    "labels of pixels": (
        nets.Argmax(dense=True),
        "head:in",
        f"{BEFORE}; the output itself can't be explained: its type is int64, which has no gradient",
        [],
    ),
    "score": (nets.Score(), "f:in", f"{BEFORE} before the class scores", ["output"]),
    "mapping": (nets.Packed(), "output:embedding", "output: it is no linear map of another layer", ["f:in"]),
}


def surveyed(net: nn.Module, layer: str | None = None) -> Survey:
    return survey(net.eval(), X, layer)


@pytest.mark.first(7)
@pytest.mark.parametrize("name", CHOICES)
def test_the_encoder_output_and_why(name: str) -> None:
    net, layer, reason, _ = CHOICES[name]
    tap = find_encoder_output(net.eval(), X)
    assert (tap.layer, tap.found_by) == (layer, reason)
    assert tap(X).shape[0] == len(X)


@pytest.mark.wide
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CHOICES)
def test_the_candidates(name: str) -> None:
    net, layer, reason, others = CHOICES[name]
    result = surveyed(net)
    assert result.tap is not None
    assert (result.tap.layer, result.refusal, result.complete) == (layer, None, True)
    first, *rest = result.candidates
    assert (first.layer, first.reason) == (layer, reason)
    assert [each.layer for each in rest] == others
    # each can be typed, gives another tensor, and is at the border of one of the rows
    tensors = [find_encoder_output(net, X, each.layer)(X) for each in result.candidates]
    assert all(len(tensor) == len(X) and tensor.is_floating_point() for tensor in tensors)
    assert [(a, b) for a in range(len(tensors)) for b in range(a) if same(tensors[a], tensors[b])] == []
    listed = {layer: reason for row in result.rows for layer, reason in row.candidates}
    assert listed == {each.layer: each.reason for each in result.candidates}


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def test_the_scales_are_told_apart() -> None:
    reasons = [each.reason for each in surveyed(nets.Yolo(decoded=False)).candidates[1:3]]
    assert reasons == [
        "the last layer before the 2 last linear maps of number 2, from the coarsest, of 3 scales",
        "the last layer before the 2 last linear maps of the finest of 3 scales",
    ]


def test_the_deepest_of_a_pyramid_is_what_the_output_means() -> None:
    for net in (nets.Pyramid(), nets.Pyramid(reverse=True)):
        fine, deep = sorted(net.eval()(X), key=lambda each: -each.shape[2])
        assert torch.equal(find_encoder_output(net, X)(X), deep)
        number = 1 if net.reverse else 0
        assert torch.equal(find_encoder_output(net, X, f"output:{number}")(X), fine)


# --- small things that decide


class Squashed(nn.Module):
    """Features, a linear map of a neutral name, and what is made of it."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end, self.body, self.map = end, nets.conv(3, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> object:
        return SQUASHED[self.end][0](self.map(self.body(x)))


SQUASHED = {
    "hardly": (torch.tanh, "output"),
    "sigmoid": (torch.sigmoid, "map:in"),
    "log-sigmoid": (F.logsigmoid, "map:in"),
    "softmax": (lambda y: F.softmax(y, 1), "map:in"),
    "scaled": (lambda y: F.interpolate(y.sigmoid() * 255 - 1, scale_factor=2), "map:in"),
    "keys of predictions": (lambda y: {"masks": y}, "map:in"),
    "keys of features": (lambda y: {"features": y}, "output"),
    "an auxiliary one": (lambda y: {"out": y, "aux": y.sigmoid()}, "output"),
}


@pytest.mark.parametrize("end", SQUASHED)
def test_what_an_output_is_behind_decides(end: str) -> None:
    assert find_encoder_output(Squashed(end).eval(), X).layer == SQUASHED[end][1]


def test_the_gate_of_an_attention_block_is_no_prediction() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = nets.conv(3, 8), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x)
            return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()

    assert find_encoder_output(Gated().eval(), X).layer == "output"


class Named(nn.Module):
    """Two modules in a row under given names, and a softmax."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.names = (first, second)
        self.add_module(first, nets.conv(3, 8, 3, 2))
        self.add_module(second, nets.conv(8, 8, 3, 2))
        self.map = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return self.map(x).softmax(1)


@pytest.mark.parametrize(
    ("first", "second", "layer"),
    [
        ("backbone", "neck", "backbone"),
        ("backbone", "encoder", "encoder"),
        ("vision_tower", "neck", "vision_tower"),
        ("text_encoder", "mask_encoder", "mask_encoder"),
        ("one", "two", "two"),
    ],
)
def test_encoders_go_by_their_names(first: str, second: str, layer: str) -> None:
    tap = find_encoder_output(Named(first, second).eval(), X)
    # the last layer before the map has both names
    assert tap.layer == ("map:in" if layer in ("two", "mask_encoder") else layer)


# --- a survey never fails


class Half(nn.Module):
    """Its pass ends in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(5, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_a_survey_of_a_pass_that_fails_has_what_ran() -> None:
    result = surveyed(Half())
    assert [row.name for row in result.rows] == ["first", "second", "third"]
    assert [row.refusal for row in result.rows] == ["", "", "the forward pass fails before its end"]
    assert [row.input_refusal for row in result.rows] == ["", "", ""]
    assert (result.tap, result.complete, result.candidates) == (None, False, ())
    assert result.refusal is not None
    assert result.refusal.message.startswith("the forward pass fails on an input of (2, 3, 64, 64) float32")
    with pytest.raises(EmbeddingError):
        executed_layers(Half(), X)
    # what ran can be tapped
    named = surveyed(Half(), "second")
    assert (named.tap and named.tap.layer, named.refusal) == ("second", None)


def test_a_survey_says_what_cannot_be_explained() -> None:
    def why(net: nn.Module) -> dict[str, tuple[str, str]]:
        return {row.name: (row.refusal, row.input_refusal) for row in surveyed(net).rows}

    time_major = "its first axis, 16, is not the batch"
    crnn = why(nets.Crnn())
    assert (crnn["cnn"], crnn["rnn"], crnn["fc"]) == (("", ""), (time_major,) * 2, (time_major,) * 2)
    assert crnn["output"][0] == time_major
    assert why(nets.Argmax())["output"][0] == "its type is int64, which has no gradient"


def test_an_axis_that_is_as_long_as_the_batch_by_chance_is_not_taken_for_it() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.heads = nets.conv(3, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x).mean((2, 3))
            return self.heads(torch.stack([y, y.square()]).mean(1))  # (2, 5), whatever the batch

    rows: dict[str, LayerRow] = {row.name: row for row in surveyed(Two()).rows}
    assert rows["output"].refusal == "its first axis is 2 for any number of images"
    assert rows["body"].refusal == ""


def test_a_survey_of_a_name_that_is_not_there() -> None:
    result = surveyed(nets.Unet(), "nonsense")
    assert result.tap is None
    assert isinstance(result.refusal, NotFoundError)
    assert [each.layer for each in result.candidates] == ["outc:in", "output"]
    assert result.rows[-1].name == "output"


def test_parts_of_an_output_can_be_named_and_others_are_refused() -> None:
    net = nets.Detr().eval()
    assert torch.equal(find_encoder_output(net, X, "output:pred_boxes")(X), net(X)["pred_boxes"])
    with pytest.raises(NotFoundError, match="no part 'boxes'") as caught:
        find_encoder_output(net, X, "output:boxes")
    assert caught.value.hint == "its parts are pred_logits, pred_boxes"


class Odd(nn.Module):
    """A convolution, and whatever is made of it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.c = kind, nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> object:
        return ODD[self.kind][0](self.c(x))


NO_GRADIENT = "it does not depend on the image in a way that has a gradient"

#: What is returned, T, and why the output can't be explained.
ODD = {
    "nothing": (lambda y: None, "c", "it gives no tensor"),
    "text": (lambda y: "a cat", "c", "it gives no tensor"),
    "a generator": (lambda y: (y for _ in range(2)), "c", "it gives no tensor"),
    "no axes": (lambda y: y.mean(), "c", "it has no axes, so that there is none for the batch"),
    "empty": (lambda y: y[:, :0], "c", "it is empty"),
    "complex": (lambda y: torch.fft.fft2(y), "c", "its type is complex64, which has no gradient"),
    "truth values": (lambda y: y > 0, "c", "its type is bool, which has no gradient"),
    "quantised": (
        lambda y: torch.quantize_per_tensor(y, 0.1, 0, torch.qint8),
        "c",
        "its type is qint8, which has no gradient",
    ),
    "detached": (lambda y: y.detach(), "c", NO_GRADIENT),
    "constant": (lambda y: torch.ones(len(y), 3), "c", NO_GRADIENT),
    "not finite": (lambda y: y * torch.nan, "output", ""),
    "half precision": (lambda y: y.half(), "output", ""),
    "deep inside": (lambda y: {"a": [{"b": (y, None, 3)}]}, "output", ""),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_survey_of_odd_outputs_has_a_row_for_each_layer(kind: str) -> None:
    _, layer, refusal = ODD[kind]
    result = surveyed(Odd(kind))
    assert [(row.name, row.refusal) for row in result.rows] == [("c", ""), ("output", refusal)]
    assert result.tap is not None
    assert result.tap.layer == layer
    assert ("can't be explained" in result.tap.found_by) == bool(refusal)
    assert result.complete


def test_a_model_without_anything_to_explain_has_a_survey() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.zeros_like(x))

    result = surveyed(Blind())
    assert [(row.name, row.refusal) for row in result.rows] == [("c", NO_GRADIENT), ("output", NO_GRADIENT)]
    assert (result.tap, result.candidates) == (None, ())
    assert result.refusal is not None
    assert "has no gradient with respect to the input" in result.refusal.message


# --- the tensor before the last squashing


@pytest.mark.parametrize(
    ("net", "layer", "reason"),
    [
        (nets.Recogniser(), "fc", "the last layer before the softmax in which output ends"),
        (nets.Recogniser(log=True), "fc", "the last layer before the log-softmax in which output ends"),
        (nets.TextDetector(), "last", "the last layer before the sigmoid in which output ends"),
        (nets.Unet(), "outc", "the last layer before the sigmoid in which output ends"),
    ],
)
def test_what_is_before_the_last_squashing(net: nn.Module, layer: str, reason: str) -> None:
    earlier = before_last(net.eval(), X, find_encoder_output(net, X, "output"))
    assert earlier is not None
    assert (earlier.layer, earlier.found_by) == (layer, reason)


def test_nothing_is_before_what_ends_in_no_squashing() -> None:
    for net in (nets.EncoderDecoder(), nets.Score(), nets.Argmax()):
        assert before_last(net.eval(), X, find_encoder_output(net, X)) is None
