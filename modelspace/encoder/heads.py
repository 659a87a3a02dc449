"""Where predictions come from: walks on the autograd graph from a model's output down to the last linear maps.

Reshapes, concatenations, sigmoids, softmaxes, the decoding of boxes, scaling and upsampling may lie between a
prediction and its linear map. A walk ends at a linear map with weights of its own, which is a *head*, or else at the
first tensor that is not produced by decoding, which is a *feature*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from modelspace.attribution.graph import Graph, Node
from modelspace.attribution.rules import BATCH_NORMS, LINEAR, SELECTION
from modelspace.encoder.trace import Edge


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONVOLUTIONS = _words("""
    Convolution ConvolutionOverrideable CudnnConvolution CudnnConvolutionTranspose MiopenConvolution
    MiopenConvolutionTranspose MkldnnConvolution MpsConvolution MpsConvolutionTranspose SlowConv2D SlowConvTranspose2D
    """)
LINEAR_MAPS = frozenset({"Addmm", "Bmm", "Linear", "MkldnnLinear", "Mm", *CONVOLUTIONS})

#: Functions that squash values to probabilities: kind of node -> common name.
PROBABILITIES = {
    "LogSigmoid": "log-sigmoid",
    "LogSoftmax": "log-softmax",
    "SafeSoftmax": "softmax",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
}

#: Nonlinear operations that turn the values of linear maps into boxes and scores.
_DECODING = _words("""
    Abs Addcmul Bmm Clamp ClampMax ClampMin Div Exp Exp2 Expm1 Hardsigmoid Log Log1P Logit Mm Mul Pow Relu Softplus Sqrt
    Tanh
    """)
_PASSED = frozenset((LINEAR | SELECTION | BATCH_NORMS | _DECODING | set(PROBABILITIES)) - {"AccumulateGrad"})

#: Operations that keep the values and change only their order or shape.
RESHAPING = _words("""
    Alias Chunk Clone Copy Expand Flip Gather Index IndexSelect Narrow NativeDropout Permute Reshape ReshapeAlias
    ReshapeCopy Select Slice Split SplitWithSizes Squeeze T ToCopy Transpose Unbind UnsafeSplit UnsafeView Unsqueeze
    View
    """)


@dataclass(frozen=True)
class End:
    """Where a walk down from a prediction ends.

    Attributes:
        below: the tensor that the head is computed from, or the feature itself.
        weight: the head's matrix or kernel; None for a feature.
        positions: number of positions per image that the head is applied to, or that the feature has.
    """

    below: Edge
    weight: Tensor | None
    positions: int


@dataclass(frozen=True)
class Way:
    """What a prediction is computed from.

    Attributes:
        ends: the heads and features that it is computed from.
        squashed: common names of the functions that squash it to probabilities.
        joined: whether it concatenates several heads, for example boxes and classes.
    """

    ends: frozenset[End] = frozenset()
    squashed: frozenset[str] = frozenset()
    joined: bool = False

    @property
    def heads(self) -> list[End]:
        """The ends that are linear maps with weights of their own."""
        return [end for end in self.ends if end.weight is not None]


class Heads:
    """Walks on one graph.

    Args:
        graph: the autograd graph of a pass, with the parameters as leaves.
        batch: number of images in the pass.
    """

    def __init__(self, graph: Graph, batch: int) -> None:
        self.graph = graph
        self._batch = batch
        self._ways: dict[Edge, Way] = {}
        self._heads: dict[Node, End | None] = {}
        self._below: dict[Node, frozenset[Node]] = {}

    def way(self, edge: Edge) -> Way:
        """What the prediction at `edge`, which depends on the image, is computed from."""
        stack = [edge]
        while stack:
            top = stack[-1]
            if top in self._ways:
                stack.pop()
                continue
            inner = [] if self._is_end(top[0]) else self.live(top[0])
            if missing := [each for each in inner if each not in self._ways]:
                stack += missing
            else:
                self._ways[top] = self._joined(top, inner)
                stack.pop()
        return self._ways[edge]

    def live(self, node: Node) -> list[Edge]:
        """The inputs of a node that depend on the image."""
        inputs, numbers = self.graph.inputs[node], self.graph.numbers[node]
        return [(inputs[i], numbers[i]) for i in self.graph.all_live(node)]

    def head(self, node: Node) -> End | None:
        """The node as a head; None if it is not a linear map with weights of its own."""
        if node not in self._heads:
            self._heads[node] = self._head(node)
        return self._heads[node]

    def _head(self, node: Node) -> End | None:
        kind, live = self.graph.kinds[node], self.live(node)
        if kind not in LINEAR_MAPS or len(live) != 1:
            return None
        weight = weight_of(self.graph, node)
        if weight is None or len(leaves(self.graph, [live[0][0]])) < 2:
            return None  # without a parameter before it, it is the model's first layer, not a head
        shape = _shape((node, 0))
        positions = math.prod(shape[2:]) if kind in CONVOLUTIONS else math.prod(shape[:-1]) // self._batch
        return End(live[0], weight, max(1, positions))

    def _feature(self, edge: Edge) -> Way:
        shape = _shape(edge)
        positions = math.prod(shape[2:]) if len(shape) > 3 else math.prod(shape[1:-1])
        return Way(frozenset({End(edge, None, positions)}))

    def _is_end(self, node: Node) -> bool:
        kind = self.graph.kinds[node]
        if kind in LINEAR_MAPS and self.head(node) is not None:
            return not self._decodes(node)
        return kind not in _PASSED and not (kind in LINEAR_MAPS and len(self.live(node)) > 1)

    def _decodes(self, node: Node) -> bool:
        """Whether a linear map is applied to probabilities, such as the mean over the bins of a box's side."""
        edges = self.live(node)
        while len(edges) == 1 and self.graph.kinds[edges[0][0]] in RESHAPING:
            edges = self.live(edges[0][0])
        return len(edges) == 1 and self.graph.kinds[edges[0][0]] in ("Softmax", "SafeSoftmax")

    def _joined(self, edge: Edge, inner: Sequence[Edge]) -> Way:
        """The way of a node, given the ways of its inputs."""
        node = edge[0]
        kind = self.graph.kinds[node]
        if kind == "AccumulateGrad":
            return Way()  # the image itself
        if self._is_end(node):
            head = self.head(node)
            return Way(frozenset({head})) if head is not None else self._feature(edge)
        ways = [self._ways[each] for each in inner]
        if kind == "Relu" and any(self._rectifies(each) for each in inner):
            return self._feature(edge)
        if len(inner) > 1 and kind == "Mul":
            gates = [self._gate(each) for each in inner]
            if any(gates) and not all(gates):
                ways = [way for way, gate in zip(ways, gates, strict=True) if not gate]
        elif len(inner) > 1 and kind in ("Add", "Sub", "Div") and self._one_from_the_other(inner):
            return self._feature(edge)
        squashed = frozenset(each for way in ways for each in way.squashed)
        if kind in PROBABILITIES:
            squashed |= {PROBABILITIES[kind]}
        ends = frozenset(end for way in ways for end in way.ends)
        side_by_side = kind in ("Cat", "Stack") and sum(1 for way in ways if way.heads) > 1
        return Way(ends, squashed, side_by_side or any(way.joined for way in ways))

    def _rectifies(self, edge: Edge) -> bool:
        """Whether the output of a ReLU is a feature: it follows anything but a linear map and its scaling."""
        while self.graph.kinds[edge[0]] not in LINEAR_MAPS:
            inner = self.live(edge[0])
            if len(inner) != 1 or self.graph.kinds[edge[0]] not in RESHAPING | {"Mul", "Div", "Add"}:
                return True
            edge = inner[0]
        return False

    def _gate(self, edge: Edge) -> bool:
        """Whether a factor is a probability, such as the gate of a squeeze-and-excitation block."""
        return self._source_kind(edge) in {*PROBABILITIES, "Hardsigmoid"}

    def _one_from_the_other(self, edges: Sequence[Edge]) -> bool:
        """Whether one of several summands is computed from another, as in a residual block."""
        return any(a[0] in self.below(b[0]) for a in edges for b in edges if a[0] is not b[0])

    def below(self, node: Node) -> frozenset[Node]:
        """A node and all nodes that it is computed from."""
        if node not in self._below:
            self._below[node] = frozenset(_reached(self.graph, [node]))
        return self._below[node]

    def common(self, targets: Iterable[Edge]) -> list[tuple[Node, set[int]]]:
        """The nodes on every path from the targets down to the image, the nearest first.

        Each comes with the numbers of its outputs that are used.
        """
        targets = list(targets)
        order = self._downwards([edge[0] for edge in targets])
        # edges from visited nodes to nodes that are not visited yet
        ahead: dict[Node, set[int]] = {}
        for node, number in targets:
            ahead.setdefault(node, set()).add(number)
        gates = []
        for node in order:
            numbers = ahead.pop(node, set())
            if not ahead:
                gates.append((node, numbers))
            for below, number in self.live(node):
                ahead.setdefault(below, set()).add(number)
        return gates

    def _downwards(self, roots: Sequence[Node]) -> list[Node]:
        """The nodes below `roots` that depend on the image, in an order in which each precedes its inputs."""
        finished: list[Node] = []
        seen: set[Node] = set()
        stack = [(node, False) for node in roots]
        while stack:
            node, over = stack.pop()
            if over:
                finished.append(node)
                continue
            if node in seen:
                continue
            seen.add(node)
            stack.append((node, True))
            stack += [(below, False) for below, _ in self.live(node) if below not in seen]
        return finished[::-1]

    def ending(self, edge: Edge) -> Ending | None:
        """The softmax, sigmoid or norm that the tensor at `edge` ends in; None if it ends in something else."""
        below: dict[Edge, None] = {}
        kinds: set[str] = set()
        stack, seen = [edge], set()
        while stack:
            top = stack.pop()
            if top in seen:
                continue
            seen.add(top)
            inner = self.live(top[0])
            kind = self._ends_in(top[0])
            if kind:
                kinds.add(kind)
                below |= dict.fromkeys(inner)
            elif self.graph.kinds[top[0]] in _BEHIND_NORMS and (len(inner) == 1 or self.graph.kinds[top[0]] == "Cat"):
                stack += inner
            else:
                return None
        return Ending(list(below), " and ".join(sorted(kinds))) if below else None

    def _ends_in(self, node: Node) -> str:
        """Common name of a node that fixes the sum of its values, or saturates; empty for any other."""
        kind, live = self.graph.kinds[node], self.live(node)
        if kind in PROBABILITIES:
            return PROBABILITIES[kind]
        if kind in _NORMS:
            return _NORMS[kind]
        if kind == "NativeBatchNorm" and node._saved_training:
            return "instance norm"
        if kind == "Div" and len(live) == 2:
            return "norm"
        inverse = (
            kind == "Mul"
            and len(live) == 2
            and any(self._source_kind(each) in ("Rsqrt", "Reciprocal") for each in live)
        )
        return "norm" if inverse else ""

    def centring(self, edge: Edge) -> list[Edge]:
        """The inputs of a node that subtracts a tensor's mean from it; empty for any other node."""
        live = self.live(edge[0])
        if self.graph.kinds[edge[0]] == "Sub" and len(live) == 2 and self._source_kind(live[1]) == "Mean":
            return live
        return []

    def _source_kind(self, edge: Edge) -> str:
        """Kind of the node below reshapes."""
        while self.graph.kinds[edge[0]] in RESHAPING and len(inner := self.live(edge[0])) == 1:
            edge = inner[0]
        return self.graph.kinds[edge[0]]


@dataclass(frozen=True)
class Ending:
    """The last squashing or norm before a tensor: the tensors that it is applied to, and its common name."""

    below: list[Edge]
    kind: str


_NORMS = {
    "FusedRmsNorm": "RMS norm",
    "NativeGroupNorm": "group norm",
    "NativeLayerNorm": "layer norm",
}
_BEHIND_NORMS = RESHAPING | {"AdaptiveAvgPool2D", "Add", "AvgPool2D", "Cat", "Div", "Mean", "Mul", "Sum"}

# --- classifiers

#: Nodes that may lie between the classifier's linear map and the output.
_AFTER_LOGITS = _words("""
    AdaptiveAvgPool2D Alias AvgPool2D Clone Expand LogSoftmax Mean NativeDropout Permute Reshape ReshapeAlias Select
    Sigmoid Slice Softmax Squeeze Sum T ToCopy Transpose UnsafeView Unsqueeze View
    """)
_CLASSIFIERS = _words("Addmm Bmm Linear Mm Convolution CudnnConvolution MkldnnConvolution MpsConvolution")


def last_linear_maps(graph: Graph, root: Node) -> list[Tensor] | None:
    """Weights of the linear maps nearest to class scores; None if something else comes first."""
    weights: list[Tensor] = []
    # a ReLU after a 1 x 1 convolution and before the pooling belongs to the classifier, as in SqueezeNet
    stack: list[tuple[Node, bool]] = [(root, False)]
    seen: set[Node] = set()
    while stack:
        node, rectified = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        kind, below = graph.kinds[node], graph.inputs[node]
        live = graph.all_live(node)
        if not live:
            continue
        weight = weight_of(graph, node) if kind in _CLASSIFIERS else None
        if weight is not None:
            if not _classifies(weight, rectified) or len(leaves(graph, [below[i] for i in live])) < 2:
                return None  # also if only the input comes before it: it is not a classifier on top of an encoder
            weights.append(weight)
        elif _leads_to_logits(kind, len(live)):
            stack += [(below[i], rectified or kind == "Relu") for i in live]
        else:
            return None
    return weights or None


def _classifies(weight: Tensor, rectified: bool) -> bool:
    convolution = weight.dim() > 2
    return all(side == 1 for side in weight.shape[2:]) and (convolution or not rectified)


def _leads_to_logits(kind: str, live: int) -> bool:
    if kind in ("Div", "Mul", "Sub"):
        return live == 1
    return kind in _AFTER_LOGITS or kind in ("Add", "Cat", "Relu", "Stack")


# --- weights


def weight_of(graph: Graph, node: Node) -> Tensor | None:
    """The matrix or kernel parameter of a linear map whose other factor depends on the input; None if there is none.

    The weight may be a transposed or normalised parameter: the largest parameter that it is computed from is returned.
    """
    fixed = [function for function in graph.inputs[node] if function is not None and not graph.depends(function)]
    weights = [variable for variable in leaves(graph, fixed) if variable.dim() >= 2]
    return max(weights, key=Tensor.numel, default=None)


def leaves(graph: Graph, nodes: Iterable[Node]) -> list[Tensor]:
    """The leaf tensors that `nodes` are computed from."""
    return [node.variable for node in _reached(graph, nodes) if graph.kinds[node] == "AccumulateGrad"]


def _reached(graph: Graph, nodes: Iterable[Node]) -> set[Node]:
    seen: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [function for function in graph.inputs[node] if function is not None]
    return seen


def _shape(edge: Edge) -> tuple[int, ...]:
    """Shape of the tensor at an edge; () if torch does not keep it."""
    node, number = edge
    known = getattr(node, "_input_metadata", ())
    return tuple(known[number].shape) if number < len(known) else ()
