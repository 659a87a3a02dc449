"""Which tensor of a model is its encoder output T if the user names none, and which others could be.

In this order:

1. a classifier, that is one vector per image behind one linear map: the input of that map, the pre-logits;
2. an output with named parts: its features, for example "encoder_last_hidden_state"; the deepest if there are several;
3. predictions, that is an output after a softmax or a sigmoid, of several heads, of a layer that is called a head, or
   one that can't be explained itself: the output of the module that is called an encoder or a backbone; else the last
   tensor that all heads of the coarsest scale are computed from;
4. otherwise the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from modelspace.encoder.heads import End, Heads, Way, last_linear_maps, leaves
from modelspace.encoder.outputs import coarsest
from modelspace.encoder.trace import Edge, Point, Trace

#: Names of features in an output, the most informative first: an encoder's before a decoder's.
FEATURES = (
    *("encoder_last_hidden_state", "image_embeds", "image_embeddings", "vision_hidden_states", "encoder_hidden_states"),
    *("backbone_features", "pooler_output", "last_hidden_state", "x_norm_clstoken", "x_norm_patchtokens", "features"),
    *("feature_maps", "hidden_states"),
)

#: Keys of an output whose values are predictions.
_PREDICTIONS = re.compile(
    r"logits|pred(icted|iction)?s?(_|$)|scores?$|(^|_)(boxes|masks?|labels|probs?|probabilities|heatmaps?|keypoints|detections)$"
)

#: Names of modules that return features, and of those that encode something other than images.
_ENCODER = re.compile(r"(backbone|encoder|trunk|vision_model|vision_tower|feature_extractor)$")
_OTHER_ENCODER = re.compile(
    r"(text|prompt|mask|pos|position|positional|query|box|label|point|class|caption|language|lang|time|memory)_?encoder$"
)

#: Names of modules that make predictions.
_HEAD = re.compile(
    r"(^|_)(\w*heads?|detect(ion|or)?|pred(ict(or|ion)s?|s)?|cls|class(es|ifier|ification)?|bbox|box(es)?|logits?|scores?"
    r"|seg(mentation)?|masks?|heatmaps?|landmarks?|keypoints?)(_|\d|$)"
)

_AUXILIARY = re.compile(r"(^|_)aux")


@dataclass(frozen=True)
class Candidate:
    """A tensor that could be T.

    Attributes:
        layer: in the form that `layer=` accepts.
        reason: why it could be T, in a few words.
    """

    layer: str
    reason: str


class Chooser:
    """Chooses T in a trace that has the parameters as leaves (`modelspace.encoder.trace.trace`)."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.heads = Heads(trace.graph, trace.batch)
        self._owners = {id(p): _owner(name) for name, p in trace.module.named_parameters(remove_duplicate=False)}

    # --- the choice

    def choose(self) -> Candidate | None:
        """The encoder output; None if neither the output nor anything before it can be explained."""
        output = self._output
        if output is not None and self._is_vector(output):
            names = self._classifiers(output.edge)
            if len(names) == 1 and names[0] in self.trace.calls:
                return Candidate(f"{names[0]}:in", "input of the last linear map before the class scores")
        for candidate in (self._named_features(), self._before_predictions()):
            if candidate is not None:
                return candidate
        if output is not None and self.trace.usable(output):
            return Candidate(output.tap, f"output: {self._why_output(output)}")
        return None

    @cached_property
    def _output(self) -> Point | None:
        """The main part of the output or, if it can't be explained, the first part that can."""
        output = self.trace.output
        if output is None or self.trace.usable(output):
            return output
        return next((point for point in self._output_parts() if self.trace.usable(point)), output)

    def candidates(self) -> list[Candidate]:
        """All tensors that could be T, the choice first, each once."""
        choice = self.choose()
        listed: dict[Edge | None, Candidate] = {}
        for candidate in (*([] if choice is None else [choice]), *self._others()):
            listed.setdefault(self.trace.points[candidate.layer].edge, candidate)
        return list(listed.values())

    def _others(self) -> Iterator[Candidate]:
        output = self._output
        for name in self._classifiers(output.edge) if output is not None and self._is_vector(output) else ():
            if name not in self.trace.calls:
                continue
            yield Candidate(f"{name}:in", "input of a last linear map before the class scores")
        named = self._named_features()
        if named is not None:
            yield named
        for point in self._encoders():
            yield self._encoder(point)
        if not self._is_classifier:
            yield from self._by_scale()
        if output is not None and self.trace.usable(output):
            squashed = self.heads.way(output.edge).squashed if output.edge else ()
            yield Candidate(output.tap, f"the model's output{_behind(squashed)}")
        for point in self._output_parts():
            if self.trace.usable(point) and point not in (output, self.trace.output):
                yield Candidate(point.tap, "part of the model's output")

    # --- 1. classifiers

    def _is_vector(self, point: Point) -> bool:
        """Whether the tensor is one vector, or one number, per image."""
        sides = point.shape[1:]
        return self.trace.usable(point) and all(side == 1 for side in sides[1:])

    def _classifiers(self, edge: Edge | None) -> list[str]:
        """Names of the modules that own the last linear maps before class scores."""
        maps = last_linear_maps(self.trace.graph, edge[0]) if edge is not None else None
        names = {self._owners[id(weight)] for weight in maps or () if id(weight) in self._owners}
        return sorted(name for name in names if name)

    @cached_property
    def _is_classifier(self) -> bool:
        output = self._output
        return output is not None and self._is_vector(output) and len(self._classifiers(output.edge)) == 1

    def _why_output(self, output: Point) -> str:
        parts = [point.shape for point in self._output_parts()]
        if coarsest(parts) is not None:
            return f"the deepest of {len(parts)} feature maps"
        if not self._is_vector(output):
            return f"it has shape {output.shape[1:]} per image, which are no class scores"
        assert output.edge is not None
        if last_linear_maps(self.trace.graph, output.edge[0]) is None:
            return "it is no linear map of another layer"
        names = self._classifiers(output.edge)
        if len(names) > 1:
            return f"the model has several last linear maps ({', '.join(names)})"
        return "its last linear map belongs to no layer"

    # --- 2. outputs with names

    def _named_features(self) -> Candidate | None:
        parts = [point for point in self._output_parts() if not point.plain and self.trace.usable(point)]
        output = self._output
        for name in FEATURES:
            group = [point for point in parts if point.path.partition(".")[0] == name]
            if not group:
                continue
            point = _deepest(group)
            several = f", the deepest of {len(group)}" if len(group) > 1 else ""
            if output is not None and output.edge == point.edge:
                return Candidate(output.tap, f"output: its {name}{several}")
            return Candidate(self._label(point).tap, f"{name} of the output{several}")
        return None

    def _output_parts(self) -> list[Point]:
        return self.trace.parts("")

    # --- 3. predictions

    def _before_predictions(self) -> Candidate | None:
        evidence = self._evidence
        if not evidence:
            return None
        encoder = self._only_encoder()
        if encoder is not None:
            candidate = self._encoder(encoder)
            return Candidate(candidate.layer, f"{candidate.reason}; {evidence}")
        scales = list(self._by_scale())
        if scales:
            return Candidate(scales[0].layer, f"{scales[0].reason}; {evidence}")
        return None

    @cached_property
    def _predictions(self) -> list[Edge]:
        """The output's tensors that depend on the image, except features and auxiliary outputs.

        If there is none, the last such tensor of the pass.
        """
        parts = [point for point in self._output_parts() if self._real(point)]
        keys = {point.tap: point.path.partition(".")[0] for point in parts}
        kept = [point for point in parts if keys[point.tap] not in FEATURES and not _AUXILIARY.search(keys[point.tap])]
        edges = [point.edge for point in kept or parts if point.edge is not None]
        if edges:
            return list(dict.fromkeys(edges))
        last = max((p for p in self.trace.points.values() if self._real(p)), key=lambda p: p.time, default=None)
        return [last.edge] if last is not None and last.edge is not None else []

    def _real(self, point: Point) -> bool:
        return point.dtype.is_floating_point and self.trace.depends(point.edge)

    @cached_property
    def _ways(self) -> list[Way]:
        return [self.heads.way(edge) for edge in self._predictions]

    @cached_property
    def _ends(self) -> list[End]:
        """The heads that the predictions are computed from; if there are none, the features."""
        ends = list(dict.fromkeys(end for way in self._ways for end in way.ends))
        return [end for end in ends if end.weight is not None] or ends

    @cached_property
    def _evidence(self) -> str:
        """The evidence that the output contains predictions; empty if there is none."""
        output = self._output
        if output is None or not self.trace.usable(output):
            return f"the output itself can't be explained: {self._why_not_output()}"
        squashed = {each for way in self._ways for each in way.squashed}
        if squashed:
            return f"the output is behind a {' and a '.join(sorted(squashed))}"
        if self._is_vector(output):
            return ""
        paths = dict.fromkeys([*(point.path for point in self._output_parts()), self.trace.path])
        named = [path for path in paths if _PREDICTIONS.search(path.partition(".")[0])]
        if named:
            return f"the output holds predictions ({', '.join(named[:3])})"
        if any(way.joined for way in self._ways) or self._nested:
            return "the output joins several heads"
        if self._is_finer_than_its_encoder(output):
            return "a decoder follows it"
        owners = self._owners_of(self._ends)
        if owners and all(any(_HEAD.search(part.lower()) for part in name.split(".")) for name in owners):
            return f"the output is that of {owners[0]}"
        if owners and any(self._is_recurrent(name) for name in owners):
            return "it is a linear map of a recurrent layer"
        return ""

    def _is_recurrent(self, owner: str) -> bool:
        """Whether a layer's input is the output of a recurrent layer."""
        given = self.trace.points.get(f"{owner}:in")
        if given is None:
            return False
        names = {point.module for point in self.trace.points.values() if point.edge == given.edge and not point.given}
        return any(isinstance(self.trace.module.get_submodule(name), nn.RNNBase) for name in names)

    def _is_finer_than_its_encoder(self, output: Point) -> bool:
        encoder = self._only_encoder()
        return encoder is not None and encoder.edge != output.edge and _positions(output) > _positions(encoder)

    @property
    def _nested(self) -> bool:
        """Whether the output is a tuple of lists, for example of classes and boxes at several scales."""
        paths = [point.path for point in self._output_parts()]
        return len(paths) > 2 and sum(1 for path in paths if re.fullmatch(r"\d+\.\d+", path)) == len(paths)

    def _why_not_output(self) -> str:
        output = self._output
        return "it holds no tensor" if output is None else self.trace.refusal(output)

    def _owners_of(self, ends: Iterable[End]) -> list[str]:
        names = [self._owners.get(id(end.weight), "") for end in ends]
        return sorted({name for name in names if name})

    # --- 3a. by name

    def _encoders(self) -> list[Point]:
        """The outputs of modules that are called encoders, the deepest part of each, in the order of the pass."""
        base = self._base_model
        names = [name for name in self.trace.left if _is_encoder(name) or name == base]
        outermost = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
        points = [self._deepest_part(name) for name in outermost]
        return sorted((point for point in points if point is not None), key=lambda point: point.time)

    def _deepest_part(self, name: str) -> Point | None:
        """The most downstream part of a module's output.

        The coarsest map of a pyramid; else the part that the module's name stands for or, if no prediction is computed
        from that part, the last one from which a prediction is computed.
        """
        usable = [point for point in self.trace.parts(name) if self.trace.usable(point)]
        if not usable:
            return None
        own = self.trace.points[name]
        below = [self.heads.below(end.below[0]) for end in self._ends]
        used = [point for point in usable if point.edge is not None and any(point.edge[0] in each for each in below)]
        own_is_used = any(point.edge == own.edge for point in used or usable)
        number = coarsest([point.shape for point in usable])
        if number is None:
            return own if own_is_used else used[-1]
        deepest = usable[number]
        return own if own_is_used and own.shape[2:] == deepest.shape[2:] else self._plain(name, deepest)

    @property
    def _base_model(self) -> str:
        """Name of the model's base model (as transformers calls it) if it contains no decoder; else empty."""
        name = str(getattr(self.trace.module, "base_model_prefix", ""))
        inside = [each for each in self.trace.left if each.startswith(f"{name}.")]
        return "" if any("decoder" in each for each in inside) else name

    def _only_encoder(self) -> Point | None:
        """The encoder that all predictions are computed from; the last one of a chain of encoders."""
        points = [point for point in self._encoders() if self._precedes(point)]
        if not points:
            return None
        last = points[-1]
        assert last.edge is not None
        below = self.heads.below(last.edge[0])
        chain = all(any(p.edge and p.edge[0] in below for p in self.trace.parts(point.module)) for point in points)
        return last if chain else None

    def _precedes(self, point: Point) -> bool:
        """Whether every head is computed from the output of the module of `point`."""
        given = {part.edge[0] for part in self.trace.parts(point.module) if part.edge is not None}
        return bool(self._ends) and all(
            given & self.heads.below(end.below[0]) and not (end.weight is None and end.below[0] in given)
            for end in self._ends
        )

    def _encoder(self, point: Point) -> Candidate:
        parts = [each for each in self.trace.parts(point.module) if self.trace.usable(each)]
        several = {each.edge for each in parts if len(each.shape) == len(point.shape)}
        text = f"output of {point.module}"
        return Candidate(point.tap, f"{text}, the deepest of {len(several)}" if len(several) > 1 else text)

    # --- 3b. by structure

    def _by_scale(self) -> Iterator[Candidate]:
        """The last tensor before the heads of each scale, the coarsest scale first."""
        scales: dict[int, list[End]] = {}
        for end in self._ends:
            scales.setdefault(end.positions, []).append(end)
        for number, positions in enumerate(sorted(scales)):
            ends = scales[positions]
            point = self.before([end.below for end in ends], self._owners_of(ends))
            if point is not None:
                own = [f"{name}:in" for name in self._owners_of(ends)] == [point.tap]
                text = _before_text(ends, own, "predictions" if self._evidence else "output")
                yield Candidate(point.tap, text + _of_scale(number, len(scales)))

    def before(self, targets: Sequence[Edge], owners: Sequence[str] = ()) -> Point | None:
        """The last tensor at a module's border through which all paths from the image to `targets` lead.

        If there is none, the last tensor that each target depends on. If a tensor has several names, the input of a
        module in `owners` comes first, then the outermost output.
        """
        places = self._places
        for node, numbers in self.heads.common(targets):
            points = [point for point in places.get(node, ()) if point.edge is not None and numbers == {point.edge[1]}]
            if points:
                return min(
                    points, key=lambda point: (len(owners) != 1 or point.tap != f"{owners[0]}:in", *_rank(point))
                )
        shared = frozenset.intersection(*(self.heads.below(edge[0]) for edge in targets)) if targets else frozenset()
        points = [point for node, several in places.items() if node in shared for point in several]
        last = max(points, key=lambda point: point.time, default=None)
        return None if last is None else self._label(last)

    def before_last(self, edge: Edge) -> tuple[Point, str] | None:
        """The last named tensor before the final squashing or norm at `edge`, and what that operation is."""
        ending = self.heads.ending(edge)
        if ending is None:
            return None
        point = self.before(ending.below)
        while point is not None and point.edge is not None and (centred := self.heads.centring(point.edge)):
            point = self.before(centred)  # the first half of a norm that is written as elementary operations
        return None if point is None else (point, ending.kind)

    @cached_property
    def _places(self) -> dict[object, list[Point]]:
        """The tensors that can be explained and depend on parameters, by the graph node that produced them."""
        places: dict[object, list[Point]] = {}
        self.trace.compare_batches()
        for point in self.trace.points.values():
            if point.edge is not None and self.trace.usable(point):
                places.setdefault(point.edge[0], []).append(point)
        return {node: points for node, points in places.items() if len(leaves(self.trace.graph, [node])) > 1}

    def _label(self, point: Point) -> Point:
        """The same tensor by its simplest name."""
        same = [each for each in self.trace.points.values() if each.edge == point.edge and self.trace.usable(each)]
        return min(same or [point], key=_rank)

    def _plain(self, name: str, point: Point) -> Point:
        """The point with the module's own name if that name stands for this part of its output."""
        own = self.trace.points.get(name)
        return own if own is not None and own.edge == point.edge else point


def _rank(point: Point) -> tuple[bool, bool, bool, bool, int, int]:
    """Simple names first: a module's output, then its input, then a part; encoders and outer modules first."""
    named = not point.given and _is_encoder(point.module)
    return point.module == "", not point.plain, point.given, not named, point.module.count("."), -point.time


def _deepest(points: Sequence[Point]) -> Point:
    """The coarsest map of a pyramid, else the last tensor."""
    number = coarsest([point.shape for point in points])
    return points[-1 if number is None else number]


def _positions(point: Point) -> int:
    """The number of positions of an image in maps (B, C, H, W), a plane (B, H, W), or tokens (B, N, C)."""
    sides = point.shape[2:] if len(point.shape) > 3 else point.shape[1:2]
    return math.prod(sides)


def _of_scale(number: int, scales: int) -> str:
    """Text for one of several scales, counted from the coarsest, which is 0."""
    if scales == 1:
        return ""
    which = {0: "the coarsest", scales - 1: "the finest"}.get(number, f"number {number + 1}, from the coarsest,")
    return f" of {which} of {scales} scales"


def _before_text(ends: Sequence[End], own: bool, last: str) -> str:
    """The reason for a tensor; `own`: whether it is the input of the only head; `last`: what follows features."""
    if all(end.weight is None for end in ends):
        return f"the last layer before the {last}"
    maps = "the last linear map" if len(ends) == 1 else f"the {len(ends)} last linear maps"
    return f"{'input of' if own else 'the last layer before'} {maps}"


def _behind(squashed: Iterable[str]) -> str:
    return f", behind a {' and a '.join(sorted(squashed))}" if squashed else ""


def _is_encoder(name: str) -> bool:
    own = name.rpartition(".")[2].lower()
    return bool(_ENCODER.search(own)) and not _OTHER_ENCODER.search(own)


def _owner(parameter: str) -> str:
    """Name of the module that owns a parameter: "fc" for "fc.weight" and "fc.parametrizations.weight.original1"."""
    return (
        parameter.partition(".parametrizations.")[0]
        if ".parametrizations." in parameter
        else parameter.rpartition(".")[0]
    )
