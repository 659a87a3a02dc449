"""ε-LRP as hooks on autograd nodes: how each kind of node propagates relevance, and which kinds are refused.

A backward pass over a graph with these hooks computes the modified gradient g̃; x · g̃ is the ε-LRP map. Every kind of
node is in one of these groups; a node of no group is refused by name:

- *linear* in everything that depends on the input, or a selection (max pool): the plain gradient;
- elementwise nonlinearities (`modelspace.attribution.activations`): the ratio y / (x + ε sign x);
- products, quotients, attention and normalisers (`modelspace.attribution.products`);
- homogeneous of degree k, such as a vector norm (k = 1) or a variance (k = 2): the plain gradient over k, for which
  Σ x · g = g_out · y by Euler's theorem;
- softmax and log-sum-exp as a signal: the tangent; its remainder, y − J x, counts as an offset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from modelspace.attribution import products
from modelspace.attribution.activations import ACTIVATIONS, Activation, ratio
from modelspace.attribution.graph import CUSTOM, Graph, Node
from modelspace.errors import EmbeddingError

Gradients = tuple[Tensor | None, ...]
Hook = Callable[[Gradients, Gradients], Gradients | None]
#: The hook of a node, None if its plain gradient is right, and the input positions that carry relevance.
Step = tuple[Hook | None, Iterable[int]]
Rule = Callable[[Graph, Node, "Settings"], Step]


class NoRule(Exception):
    """Why a node has no rule; becomes an EmbeddingError that names all such nodes."""


@dataclass
class Book:
    """Relevance that does not reach the input: sums over one backward pass."""

    bias: float = 0.0
    offset: float = 0.0
    leak: float = 0.0


class Scratch:
    """Memory for one tensor at a time, reused by the next: allocating it takes as long as a pass over it."""

    def __init__(self) -> None:
        self._flat: Tensor | None = None

    def like(self, reference: Tensor) -> Tensor:
        """A tensor of the shape, type and memory layout of `reference`; its values are arbitrary."""
        channels_last = reference.dim() == 4 and reference.is_contiguous(memory_format=torch.channels_last)
        if not (reference.is_contiguous() or channels_last):
            return torch.empty_like(reference)
        size, flat = reference.numel(), self._flat
        if flat is None or flat.numel() < size or flat.dtype != reference.dtype or flat.device != reference.device:
            self._flat = flat = torch.empty(size, dtype=reference.dtype, device=reference.device)
        return flat.as_strided(reference.shape, reference.stride())


@dataclass(frozen=True)
class Settings:
    """The parameters of the rules.

    Attributes:
        epsilon: the ε of the rule, above 0.
        offset: "secant" or "literal" (`modelspace.attribution.activations`).
        book: filled, if there is one.
        through_attention: whether attention weights carry relevance (AttnLRP), and are no constants.
    """

    epsilon: float = 1e-4
    offset: str = "secant"
    book: Book | None = None
    through_attention: bool = False
    scratch: Scratch = field(default_factory=Scratch)


def _words(text: str) -> set[str]:
    return set(text.split())


#: Affine in everything that depends on the input.
LINEAR = _words("""
    AccumulateGrad AdaptiveAvgPool2D AdaptiveAvgPool3D Add AffineGridGenerator Alias AsStrided AsStridedScatter
    AvgPool2D AvgPool3D BlockDiag Cat ChannelShuffle Chunk Clone Col2Im Complex Conj ConjPhysical ConstantPadNd Copy
    CopySlices Cumsum Deg2Rad DiagEmbed Diagonal DiagonalScatter Expand FftC2C FftC2R FftR2C Fill Flip Gather Im2Col
    Index IndexAdd IndexCopy IndexFill IndexPut IndexSelect Lift LiftFresh MaskedFill MaskedScatter MaskedSelect Mean
    MkldnnAdaptiveAvgPool2D MkldnnReshape NativeDropout Nansum Neg NegView Permute PixelShuffle PixelUnshuffle Put
    Rad2Deg ReflectionPad1D ReflectionPad2D ReflectionPad3D Repeat ReplicationPad1D ReplicationPad2D ReplicationPad3D
    Reshape ReshapeAlias ReshapeCopy Roll Rot90 Rsub Scatter ScatterAdd Select SelectScatter Slice SliceScatter Split
    SplitWithSizes Squeeze Stack Sub Sum T Take ToCopy ToDense ToMkldnn Trace Transpose Tril Triu Unbind Unfold
    UnsafeIndex UnsafeSplit UnsafeSplitWithSizes UnsafeView Unsqueeze UpsampleBicubic2D UpsampleBicubic2DAa
    UpsampleBilinear2D UpsampleBilinear2DAa UpsampleLanczos2DAa UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D
    UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D UpsampleTrilinear3D View
    ViewAsComplex ViewAsReal Where Zero
""")
#: Each output is one of the inputs.
SELECTION = _words("""
    AdaptiveMaxPool2D AdaptiveMaxPool3D Amax Amin Aminmax Cummax Cummin Fmax Fmin FractionalMaxPool2D
    FractionalMaxPool3D Kthvalue Max MaxPool2D MaxPool2DWithIndices MaxPool3DWithIndices MaxUnpool2D MaxUnpool3D Maximum
    Median Min Minimum MkldnnMaxPool2D MkldnnMaxPool3D Mode NanToNum Nanmedian Sort Topk
""")
#: Of images and signals, by any library.
CONVOLUTIONS = _words("""
    Convolution ConvolutionOverrideable ConvDepthwise2D ConvDepthwise3D CudnnConvolution CudnnConvolutionTranspose
    Linear MiopenConvolution MiopenConvolutionTranspose MiopenDepthwiseConvolution MkldnnConvolution MkldnnLinear
    MpsConvolution MpsConvolutionTranspose NnpackSpatialConvolution SlowConv2D SlowConv3D SlowConvDilated2D
    SlowConvDilated3D SlowConvTranspose2D SlowConvTranspose3D
""")
#: Linear in the data for a fixed weight: kind -> (positions of the data, positions of the weight). A weight that itself
#: depends on the input (a dynamic convolution, a sampling grid) counts as a constant, like a gate.
WEIGHTED: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    **dict.fromkeys(CONVOLUTIONS, ((0,), (1,))),
    "CudnnGridSampler": ((0,), (1,)),
    "GridSampler2D": ((0,), (1,)),
    "GridSampler3D": ((0,), (1,)),
    "Lerp": ((0, 1), (2,)),
}
#: Kind -> positions of the two factors; the other positions are added.
PRODUCTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("Bmm", "Dot", "Mm", "Mul", "Mv", "Vdot"), (0, 1)),
    **dict.fromkeys(("Addbmm", "Addcmul", "Addmm", "Addmv", "Addr", "Baddbmm"), (1, 2)),
}
#: Kind -> positions of numerator and denominator.
QUOTIENTS = {"Div": (0, 1), "Addcdiv": (1, 2)}
#: Degree of homogeneity.
HOMOGENEOUS = {"LinalgVectorNorm": 1, "Norm": 1, "Std": 1, "StdMean": 1, "Var": 2}
#: Normalisers: kind -> function from (node, gradient of the output) to the gradient of the input.
NORMALISERS: dict[str, Callable[[Node, Tensor], Tensor]] = {
    "FusedRmsNorm": products.rms_norm,
    "NativeGroupNorm": products.group_norm,
    "NativeLayerNorm": products.layer_norm,
}
BATCH_NORMS = {"BatchNormWithUpdate", "CudnnBatchNorm", "MiopenBatchNorm", "NativeBatchNorm"}
TANGENTS = {"LogSoftmax", "Logsumexp", "SafeSoftmax", "Softmax"}

#: Part of the name of an opaque node -> what to do about it.
_OPAQUE = {
    "CompiledFunction": "load the model without torch.compile",
    "DifferentiableGraph": "load the model's Python source instead of the scripted file",
    "Checkpoint": "switch checkpointing off: set_grad_checkpointing(False) in timm, "
    "gradient_checkpointing_disable() in transformers",
    "Rnn": "tap a layer before the recurrent layer with `layer=`",
}


def plan(graph: Graph, settings: Settings) -> list[tuple[Node, Hook]]:
    """The hooks that turn the backward of `graph` into that of ε-LRP.

    Only nodes that relevance flows through need a rule: a gate or a denominator may be computed by any node.

    Raises:
        EmbeddingError: nodes without a rule, all of them named.
    """
    hooks: list[tuple[Node, Hook]] = []
    refused: Counter[str] = Counter()
    seen, stack = {graph.root}, [graph.root]
    rules = _rules()
    while stack:
        node = stack.pop()
        below = graph.inputs[node]
        try:
            hook, positions = _step(graph, node, settings, rules)
        except NoRule as reason:
            refused[f"{node.name()}{f' ({reason})' if str(reason) else ''}"] += 1
            continue
        carrying = set(positions)
        dropped = [i for i, function in enumerate(below) if function is not None and i not in carrying]
        if dropped:
            hook = _without(hook, dropped)
        if hook is not None:
            hooks.append((node, hook))
        for i in carrying:
            if i < len(below) and graph.depends(below[i]) and below[i] not in seen:
                seen.add(below[i])
                stack.append(below[i])
    if refused:
        raise refusal(refused)
    return hooks


def refusal(names: Iterable[str]) -> EmbeddingError:
    """The error for nodes without a rule; a Counter's counts are shown."""
    counts = names if isinstance(names, Counter) else Counter(names)
    shown = ", ".join(name if n == 1 else f"{name} x {n}" for name, n in sorted(counts.items()))
    hint = opaque_hint(counts)
    if hint is None:
        hint = "gradient_x_input and saliency need no rules; or tap a layer before that node with `layer=`"
    return EmbeddingError(f"LRP can't follow the model's graph: no rule for {shown}", hint)


def opaque_hint(names: Iterable[str]) -> str | None:
    """What to do about the first of `names` that is an opaque node; None if none is."""
    for name in names:
        for part, hint in _OPAQUE.items():
            if part in name:
                return hint
    return None


def _without(hook: Hook | None, dropped: list[int]) -> Hook:
    """`hook`, then no gradient at the positions `dropped`: autograd skips nodes that only feed them."""

    def run(inputs: Gradients, outputs: Gradients) -> Gradients:
        changed = hook(inputs, outputs) if hook is not None else None
        return tuple(None if i in dropped else g for i, g in enumerate(inputs if changed is None else changed))

    return run


def _step(graph: Graph, node: Node, settings: Settings, rules: Mapping[str, Rule]) -> Step:
    kind = graph.kinds[node]
    if kind == "Abs" and node._saved_self.is_complex():
        return None, [0]  # homogeneous of degree 1 in the real and imaginary parts
    if rule := rules.get(kind):
        return rule(graph, node, settings)
    if kind.startswith("ScaledDotProduct"):
        if settings.through_attention:
            return _fused_attention(graph, node, settings)
        if graph.live(node, (2,)):
            return None, [2]
        raise NoRule("attention over constant values")
    custom = kind == CUSTOM and opaque_hint([node.name()]) is None
    raise NoRule("an autograd.Function defined by the model" if custom else "")


def _rules() -> dict[str, Rule]:
    """The rule of each kind of node that has one; if a kind is in several groups, the last one counts."""
    rules: dict[str, Rule] = {}
    for kind in TANGENTS:
        rules[kind] = _on_first(partial(_tangent, kind=kind))
    rules["Glu"] = _on_first(lambda node, settings: _normaliser(node, products.gated_linear_unit))
    rules["VarMean"] = _on_first(lambda node, settings: _variance_and_mean())
    for kind, degree in HOMOGENEOUS.items():
        rules[kind] = _on_first(partial(_homogeneous, degree=degree))
    rules |= dict.fromkeys(BATCH_NORMS, _batch_norm)
    for kind, gradient in NORMALISERS.items():
        rules[kind] = partial(_normalised, gradient=gradient)
    for kind, activation in ACTIVATIONS.items():
        rules[kind] = partial(_activated, activation=activation)
    rules["Pow"] = _power
    for kind, positions in QUOTIENTS.items():
        rules[kind] = partial(_quotient, positions=positions)
    for kind, positions in PRODUCTS.items():
        rules[kind] = partial(_product, factors=positions)
    for kind, (data, weight) in WEIGHTED.items():
        rules[kind] = partial(_weighted, data=data, weight=weight)
    rules |= dict.fromkeys(LINEAR | SELECTION, _passed_on)
    rules["Relu"] = _on_first(_relu)
    return rules


def _on_first(hook: Callable[[Node, Settings], Hook | None]) -> Rule:
    """The rule of a node of which only the first input carries relevance."""
    return lambda graph, node, settings: (hook(node, settings), [0])


def _passed_on(graph: Graph, node: Node, settings: Settings) -> Step:
    """The plain gradient is right, for every input."""
    return None, range(len(graph.inputs[node]))


def _weighted(graph: Graph, node: Node, settings: Settings, data: tuple[int, ...], weight: tuple[int, ...]) -> Step:
    fixed = weight if graph.live(node, data) else data
    return None, [i for i in range(len(graph.inputs[node])) if i not in fixed]


def _activated(graph: Graph, node: Node, settings: Settings, activation: Activation) -> Step:
    _only_first(graph, node)
    return _elementwise(node, activation, settings, 0), [0]


def _normalised(graph: Graph, node: Node, settings: Settings, gradient: Callable[[Node, Tensor], Tensor]) -> Step:
    _only_first(graph, node)
    return _normaliser(node, gradient), [0, 2]


def _only_first(graph: Graph, node: Node) -> None:
    if graph.all_live(node) != [0]:
        raise NoRule("more than one argument depends on the input")


# --- elementwise


def _relu(node: Node, settings: Settings) -> Hook:
    """y / (x + ε) for y > 0, else 0: the plain gradient, already computed, times y / (y + ε)."""
    epsilon, book = settings.epsilon, settings.book

    def run(inputs: Gradients, outputs: Gradients) -> Gradients | None:
        gradient, plain = outputs[0], inputs[0]
        if gradient is None or plain is None:
            return None
        y = node._saved_result.float() if _short(plain) else node._saved_result
        denominator = torch.add(y, epsilon, out=settings.scratch.like(y))
        if book is not None:
            book.leak += _total(gradient * (y - y * y / denominator))
        # Not g − g ε / (y + ε): it saves a pass, but loses all digits where y is far below ε.
        changed = torch.div(y, denominator, out=denominator)
        # The plain gradient was computed for this node alone, so it may be overwritten.
        return (plain.mul_(changed), *inputs[1:])

    return run


def _elementwise(node: Node, activation: Activation, settings: Settings, position: int) -> Hook:
    epsilon, book = settings.epsilon, settings.book
    literal = settings.offset == "literal"

    def run(inputs: Gradients, outputs: Gradients) -> Gradients | None:
        gradient = outputs[0]
        if gradient is None:
            return None
        try:
            x, y = activation.read(node)
            f0 = 0.0 if literal else activation.at_zero(node)
        except AttributeError as error:  # other versions of torch save other tensors
            raise NoRule(f"{node.name()} ({error})") from error
        if x.is_complex() or x.shape != y.shape:
            raise NoRule(f"{node.name()} (complex or of unequal shapes)")
        if _short(x):
            x, y = x.float(), y.float()
        r = ratio(x, y, f0, epsilon)
        if book is not None:
            book.offset += _total(gradient * f0)
            book.leak += _total(gradient * (y - f0 - r * x))
        changed = r.mul_(gradient).to(gradient.dtype)
        return tuple(changed if i == position else None for i in range(len(inputs)))

    return run


def _power(graph: Graph, node: Node, settings: Settings) -> Step:
    live = graph.all_live(node)
    base = isinstance(node._saved_self, Tensor) and live == [0]
    if len(live) != 1:
        raise NoRule("base and exponent both depend on the input")
    if not base and isinstance(node._saved_self, Tensor) and not isinstance(node._saved_exponent, Tensor):
        raise NoRule("unreadable power")
    activation = ACTIVATIONS["Pow" if base else "PowScalarBase"]
    return _elementwise(node, activation, settings, live[0]), live


def _short(tensor: Tensor) -> bool:
    """Whether the tensor's type is too coarse for the ratio."""
    return tensor.dtype in (torch.float16, torch.bfloat16)


def _total(values: Tensor) -> float:
    values = values.detach()
    return float((values.real if values.is_complex() else values).double().sum())


# --- products


def _product(graph: Graph, node: Node, settings: Settings, factors: tuple[int, int]) -> Step:
    signal = products.signal_edges(graph, node, factors, settings.through_attention)
    positions = [i for i in range(len(graph.inputs[node])) if i not in factors or i in signal]
    if len(signal) < 2:
        return None, positions

    def halve(inputs: Gradients, outputs: Gradients) -> Gradients:
        return tuple(g * 0.5 if g is not None and i in factors else g for i, g in enumerate(inputs))

    return halve, positions


def _fused_attention(graph: Graph, node: Node, settings: Settings) -> Step:
    """softmax(q · k) · v in one node: shares of the plain gradients (`products.attention_shares`)."""
    live, book = graph.all_live(node), settings.book
    if not set(live) <= {0, 1, 2}:
        raise NoRule("an attention mask depends on the input")
    shares = products.attention_shares(live)

    def run(inputs: Gradients, outputs: Gradients) -> Gradients | None:
        if outputs[0] is None:
            return None
        changed = tuple(None if g is None or i not in shares else g * shares[i] for i, g in enumerate(inputs))
        if book is not None and (other := live[0]) != 2:
            # What the softmax was given, less what its tangent passes on.
            saved = node._saved_query if other == 0 else node._saved_key
            passed_on = _total(changed[other] * saved) * len({0, 1} & set(live))
            given = (1.0 - shares.get(2, 0.0)) * _total(outputs[0] * node._saved_output)
            book.offset += given - passed_on
        return changed

    return run, live


def _quotient(graph: Graph, node: Node, settings: Settings, positions: tuple[int, int]) -> Step:
    numerator, denominator = positions
    if getattr(node, "_saved_rounding_mode", None) is not None:
        raise NoRule("division with rounding")
    if graph.live(node, (denominator,)) and not graph.live(node, (numerator,)):
        raise NoRule("a constant divided by an activation")
    return None, [i for i in range(len(graph.inputs[node])) if i != denominator]


def _normaliser(node: Node, rule: Callable[[Node, Tensor], Tensor]) -> Hook:
    def run(inputs: Gradients, outputs: Gradients) -> Gradients | None:
        gradient = outputs[0]
        if gradient is None:
            return None
        return (rule(node, gradient).to(gradient.dtype), *inputs[1:])

    return run


def _batch_norm(graph: Graph, node: Node, settings: Settings) -> Step:
    _only_first(graph, node)
    if node._saved_training:
        return _normaliser(node, products.batch_statistics_norm), [0, 2]
    book = settings.book
    if book is None:
        return None, [0, 2]

    def note(inputs: Gradients, outputs: Gradients) -> None:
        if outputs[0] is not None:
            book.bias += _total(products.batch_norm_shift(node, outputs[0]))

    return note, [0, 2]


# --- functions of several inputs at once


def _homogeneous(node: Node, settings: Settings, degree: int) -> Hook | None:
    if degree == 1:
        return None
    return lambda inputs, outputs: tuple(None if g is None else g / degree for g in inputs)


def _variance_and_mean() -> Hook:
    """Variance (degree 2) and mean (degree 1) of one call; only one of the two may carry relevance."""

    def run(inputs: Gradients, outputs: Gradients) -> Gradients | None:
        if outputs[0] is None:
            return None
        if outputs[1] is not None:
            raise NoRule("VarMeanBackward0 (variance and mean are both features)")
        return tuple(None if g is None else g / 2 for g in inputs)

    return run


def _tangent(node: Any, settings: Settings, kind: str) -> Hook | None:
    book = settings.book
    if book is None:
        return None

    def note(inputs: Gradients, outputs: Gradients) -> None:
        gradient, plain = outputs[0], inputs[0]
        if gradient is None or plain is None:
            return
        y = node._saved_result
        # Autograd does not save x of softmax and log-softmax, but a shift of x changes neither y nor J x.
        x = node._saved_self if kind == "Logsumexp" else y if kind == "LogSoftmax" else _log(y)
        book.offset += _total(gradient * y) - _total(plain * x)

    return note


def _log(y: Tensor) -> Tensor:
    return torch.where(y > 0, y, torch.ones_like(y)).log()
