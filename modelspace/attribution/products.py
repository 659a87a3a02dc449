"""Products of two activations, normalisers and attention: which factor carries the relevance.

A product a · b has no single input x for the ratio y / (x + ε sign x). These rules conserve relevance:

- one factor is a *gate* (it ends in sigmoid, softmax, a normaliser's reciprocal ...): the gate counts as a constant
  and all relevance goes to the other factor, the signal (Arras, Montavon, Müller, Samek, WASSA 2017,
  "signal-take-all");
- neither or both factors are gates: each gets half (the uniform rule of Achtibat et al., AttnLRP, ICML 2024,
  proposition 3.4; for x · x it is y / x);
- in AttnLRP attention weights are no gates: v and the weights get half each, the softmax its plain gradient (Achtibat
  et al., proposition 3.1), and q and k half each of what it passes on;
- a quotient: the denominator counts as a constant, and so does a layer norm's 1/σ (Ali et al., ICML 2022, section 4).

A nonlinearity written as a product, such as x · sigmoid(x) or x/2 · (1 + erf(x/√2)), thereby gets y / x. Nets of plain
convolutions, batch norm and ReLU have no such product, so none of this applies to them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelspace.attribution.graph import Graph, Node

Gradients = tuple[Tensor | None, ...]

SOFTMAX = {"Softmax", "SafeSoftmax"}

#: Ends of a branch that only rescales: a factor between 0 and 1, a sign, or a normaliser.
_STRONG = SOFTMAX | {
    "Sigmoid",
    "Hardsigmoid",
    "Exp",
    "Rsqrt",
    "Reciprocal",
    "Sign",
    "Sgn",
    "LinalgVectorNorm",
    "Norm",
    "Var",
    "VarMean",
    "Std",
    "StdMean",
}
#: Bounded, but also used as plain activations: a gate only if the other factor is not one.
_WEAK = {"Tanh", "Erf", "Hardtanh", "Clamp", "ClampMin", "ClampMax", "Sqrt"}

#: Nodes that may lie between a gate's nonlinearity and the product.
_PASS = {
    "Add",
    "Alias",
    "AsStrided",
    "Clone",
    "Div",
    "Expand",
    "Index",
    "Mean",
    "Mul",
    "NativeDropout",
    "Neg",
    "Permute",
    "Repeat",
    "ReshapeAlias",
    "Roll",
    "Rsub",
    "Select",
    "Slice",
    "Split",
    "SplitWithSizes",
    "Squeeze",
    "Sub",
    "Sum",
    "T",
    "ToCopy",
    "Transpose",
    "Unbind",
    "UnsafeSplit",
    "UnsafeView",
    "Unsqueeze",
    "UpsampleBilinear2D",
    "UpsampleNearest2D",
    "View",
}
#: Linear maps that mix attention weights across heads; behind them only a softmax counts as a gate.
_MIX = {"Addmm", "Bmm", "Convolution", "Linear", "Mm"}

#: Longest chain of nodes searched; the longest seen in practice has seven.
_DEPTH = 16


def gate_strength(graph: Graph, node: Node | None, through_attention: bool = False) -> int:
    """2 where the branch ending in `node` is a gate, 1 where it may be one, 0 where it is a signal.

    A softmax is a gate, unless relevance is to flow through attention.
    """
    mixed = False
    for _ in range(_DEPTH):
        if node is None or node not in graph.kinds:
            return 0
        kind = graph.kinds[node]
        if kind in SOFTMAX:
            return 0 if through_attention else 2
        if kind in _STRONG and not mixed:
            return 2
        if kind in _WEAK and not mixed:
            return 1
        live = graph.all_live(node)
        if kind == "Div":
            live = [i for i in live if i == 0]
        elif kind in _MIX:
            mixed = True
        elif kind not in _PASS:
            return 0
        if len(live) != 1:
            return 0
        node = graph.inputs[node][live[0]]
    return 0


def signal_edges(graph: Graph, node: Node, factors: tuple[int, int], through_attention: bool = False) -> list[int]:
    """The input positions among `factors` that carry the product's relevance: one (the signal) or both."""
    live = graph.live(node, factors)
    if len(live) < 2:
        return live
    first, second = (gate_strength(graph, graph.inputs[node][i], through_attention) for i in factors)
    if first == second:
        return live
    return [factors[1] if first > second else factors[0]]


def attention_shares(live: list[int]) -> dict[int, float]:
    """What of the plain gradients of fused attention, softmax(q · k) · v, each factor gets where both products halve.

    Args:
        live: positions that depend on the input, of 0 (q), 1 (k) and 2 (v).
    """
    weights = 1.0 if 2 not in live else 0.5 if len(live) > 1 else 0.0
    each = weights / 2 if {0, 1} <= set(live) else weights
    return {i: 1.0 - weights if i == 2 else each for i in live}


# --- normalisers: y = (x − μ) / σ · w + b with constant σ. Each returns the gradient for x.


def layer_norm(node: Node, gradient: Tensor) -> Tensor:
    """gradient: of the output; its last axes are the normalised ones. w and 1/σ are those that autograd saved."""
    axes = tuple(range(-len(node._saved_normalized_shape), 0))
    weighted = gradient if node._saved_weight is None else gradient * node._saved_weight
    scaled: Tensor = weighted * node._saved_result2
    return scaled.sub_(scaled.mean(axes, keepdim=True))


def rms_norm(node: Node, gradient: Tensor) -> Tensor:
    """No mean is subtracted: y = x / σ · w."""
    weighted = gradient if node._saved_weight is None else gradient * node._saved_weight
    scaled: Tensor = weighted * node._saved_result1
    return scaled


def group_norm(node: Node, gradient: Tensor) -> Tensor:
    """gradient: (B, C, ...)."""
    shape, groups = gradient.shape, int(node._saved_group)
    if node._saved_weight is not None:
        gradient = gradient * _per_channel(node._saved_weight, gradient)
    scaled: Tensor = gradient.reshape(shape[0], groups, -1) * node._saved_result2.reshape(shape[0], groups, 1)
    return scaled.sub_(scaled.mean(-1, keepdim=True)).reshape(shape)


def batch_statistics_norm(node: Node, gradient: Tensor) -> Tensor:
    """Batch norm with the statistics of its input; instance norm is this on (1, B·C, H, W). gradient: (B, C, ...)."""
    axes = (0, *range(2, gradient.dim()))
    if node._saved_weight is not None:
        gradient = gradient * _per_channel(node._saved_weight, gradient)
    scaled = gradient * _per_channel(node._saved_result2, gradient)
    return scaled.sub_(scaled.mean(axes, keepdim=True))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *([1] * (like.dim() - 2)))


def gated_linear_unit(node: Node, gradient: Tensor) -> Tensor:
    """y = a · sigmoid(b) of the two halves of the input: a gets all. gradient: of y; returned: of (a, b)."""
    b = node._saved_self.chunk(2, node._saved_dim)[1]
    return torch.cat([gradient * torch.sigmoid(b), torch.zeros_like(gradient)], node._saved_dim)


def batch_norm_shift(node: Node, gradient: Tensor) -> Tensor:
    """Σ gradient · (−mean · w / σ), what an eval-mode batch norm adds besides its bias; a 0-dim tensor."""
    mean, variance = node._saved_running_mean, node._saved_running_var
    # cuDNN's node has the longer name.
    epsilon = node._saved_eps if hasattr(node, "_saved_eps") else node._saved_epsilon
    shift = -mean / torch.sqrt(variance + epsilon)
    if node._saved_weight is not None:
        shift = shift * node._saved_weight
    return (gradient * _per_channel(shift, gradient)).sum()
