"""The encoder output T: which tensor of a model's forward pass is explained, found or named, and how it is taken.

A layer is named as in `named_modules`: "layer4" is that module's output, "fc:in" its first input, "output" the output of
the whole model.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import encoder_output, explained, ready
from modelspace.attribution.graph import Graph, Node
from modelspace.attribution.state import frozen
from modelspace.errors import EmbeddingError, NotFoundError
from modelspace.types import LayerChoice

__all__ = ["LayerRow", "Tap", "executed_layers", "find_encoder_output", "first_tensor", "unwrap"]

OUTPUT = "output"
_LIST_HINT = "`space.layers(model)` lists them"

#: Where to look for the tensor in an output with named parts, most telling first.
_KEYS = ("logits", "pooler_output", "last_hidden_state", "x_norm_clstoken", "out", "features", "feature_maps")


@dataclass(frozen=True)
class LayerRow:
    """One module that the forward pass runs through.

    Attributes:
        name: what `layer` takes.
        kind: the module's class.
        shape: of its output, without the batch axis; of its last call if it is called several times.
        parameters: number of parameters, those of its parts included.
        calls: how often one forward pass calls it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    calls: int


class _Reached(BaseException):
    """Ends a forward pass once T is there. Not an Exception, so that no model's own `except` swallows it."""


@dataclass(frozen=True)
class Tap:
    """Takes T from a model.

    A module that is called several times in one forward pass gives T at its last call.

    Attributes:
        layer: "fc:in", "layer4", "output": what `layer` takes.
        found_by: how it was found, a `modelspace.types.LayerChoice` as text.
        module: the whole model.
        calls: how often a forward pass calls the tapped module; at 1 the forward pass ends there.
    """

    layer: str
    found_by: str
    module: nn.Module = field(repr=False)
    calls: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """T of the batch `x`, (B, ...), in whatever gradient mode the caller is in.

        Raises:
            EmbeddingError: the forward pass did not reach the layer, or it gives no tensor.
        """
        return in_batches(self.module, self._take, x)

    def _take(self, x: Tensor) -> Tensor:
        if self.layer == OUTPUT:
            return first_tensor(self.module(x))
        name, side = _split(self.layer)
        box: list[Tensor] = []

        def keep(value: Any) -> None:
            tensor = first_tensor(value)
            if self.calls == 1:
                box.append(tensor)
                raise _Reached
            # later layers may change it in place
            box[:] = [tensor.clone()]

        part = self.module.get_submodule(name)
        if side == "in":
            handle = part.register_forward_pre_hook(
                lambda _, args, kwargs: keep((*args, *kwargs.values())), with_kwargs=True
            )
        else:
            handle = part.register_forward_hook(lambda _, args, value: keep(value))
        try:
            self.module(x)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not box:
            raise EmbeddingError(f"the forward pass did not reach layer {self.layer!r}", _LIST_HINT)
        return box[0]


def find_encoder_output(module: nn.Module, example: Tensor, layer: str | None = None) -> Tap:
    """The tap of `module`: the layer that the user named, or else the encoder output found from the graph.

    Found: if the model ends in a classifier, that is its output is one vector per image and one linear map of the last
    weights lies before it with nothing but reshaping, pooling and softmax after it, T is that map's input (the
    pre-logits). Otherwise T is the output.

    Args:
        module: the model; wrappers such as DataParallel and torch.compile's are taken off.
        example: (2, C, H, W), preprocessed; two images, since one hides the batch axis.
        layer: None, a module's name, a glob of names (the last one that finishes is taken), either with ":in" or ":out"
            behind it, or "output".

    Raises:
        NotFoundError: no such layer, or one that the forward pass does not run through; near names are given.
        EmbeddingError: the forward pass fails.
    """
    module = unwrap(module)
    with frozen(module):
        if layer is None or layer in ("", "auto"):
            return _automatic(module, example)
        return _named(module, example, layer.strip())


def executed_layers(module: nn.Module, example: Tensor) -> list[LayerRow]:
    """The modules that a forward pass runs through, in the order in which it enters them; last the whole model, "output".

    Args:
        module: the model.
        example: (2, C, H, W), preprocessed.

    Raises:
        EmbeddingError: the forward pass fails.
    """
    module = unwrap(module)
    with frozen(module):
        trace = _trace(module, example)
    rows = [
        LayerRow(
            name,
            getattr(part, "modelspace_kind", type(part).__name__),
            trace.shapes.get(name, ()),
            _size(part),
            trace.calls[name],
        )
        for name, part in module.named_modules()
        if name in trace.calls
    ]
    rows.sort(key=lambda row: trace.entered.index(row.name))
    return [*rows, LayerRow(OUTPUT, type(module).__name__, trace.output, _size(module), 1)]


def in_batches(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`run(x)`, for a model that takes any batch; else that of batches of the one size that it takes, put together.

    A model that was exported for one size of batch states it in its attribute `modelspace_batch`. The last batch is filled
    up with copies of its last image, whose part of the result is dropped.

    Args:
        module: the model.
        run: batch -> tensor whose first axis is the batch.
        x: (B, ...).
    """
    size = getattr(module, "modelspace_batch", None)
    if size is None or len(x) == size:
        return run(x)
    parts = []
    for part in x.split(size):
        value = run(_filled(part, size))
        if value.dim() == 0 or len(value) != size:
            raise EmbeddingError(
                f"the encoder output has shape {tuple(value.shape)} for {size} images: its first axis is not the batch",
                "choose a `layer=` whose first axis is the batch",
            )
        parts.append(value[: len(part)])
    return torch.cat(parts)


def _filled(x: Tensor, size: int | None) -> Tensor:
    """The first `size` images of a batch, its last image repeated where it has fewer."""
    if size is None or len(x) >= size:
        return x[:size]
    return torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])


def unwrap(module: nn.Module) -> nn.Module:
    """The model inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def first_tensor(value: Any) -> Tensor:
    """The tensor meant by a model's output: itself, the most telling entry of a mapping or dataclass, the first of a
    tuple, the last (deepest) of a list of feature maps.

    Raises:
        EmbeddingError: there is none.
    """
    found = _find_tensor(value)
    if found is None:
        raise EmbeddingError(
            f"the layer gives {type(value).__name__}, in which there is no tensor", "choose another `layer=`"
        )
    return found


def _find_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        parts = [value[key] for key in _KEYS if value.get(key) is not None] + list(value.values())
    elif isinstance(value, list):
        parts = list(reversed(value))
    elif isinstance(value, tuple) and not hasattr(value, "_fields"):
        parts = list(value)
    elif value is not None and hasattr(value, "__dict__") | hasattr(value, "_fields"):
        fields = value._asdict() if hasattr(value, "_asdict") else vars(value)
        return _find_tensor(dict(fields))
    else:
        return None
    for part in parts:
        if (found := _find_tensor(part)) is not None:
            return found
    return None


# --- what a forward pass runs through


@dataclass
class _Trace:
    """Names in the order of first entry and of last exit, calls, and shapes of outputs without the batch axis."""

    entered: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    output: tuple[int, ...] = ()


def _trace(module: nn.Module, example: Tensor) -> _Trace:
    trace = _Trace()
    handles = []

    def enter(name: str) -> None:
        if name not in trace.calls:
            trace.entered.append(name)
        trace.calls[name] = trace.calls.get(name, 0) + 1

    def leave(name: str, value: Any) -> None:
        if name in trace.left:
            trace.left.remove(name)
        trace.left.append(name)
        trace.shapes[name] = _shape(value)

    try:
        for name, part in module.named_modules():
            if not name or isinstance(part, torch.jit.ScriptModule):
                continue  # a scripted module runs in C++ and takes no hooks
            handles.append(part.register_forward_pre_hook(lambda *_, name=name: enter(name)))
            handles.append(part.register_forward_hook(lambda _, args, value, name=name: leave(name, value)))
        # with gradients, as in the passes to come: without, some of torch's modules run fused and call no submodules
        with ready(module, example) as source, explained(example):
            trace.output = _shape(module(_filled(source.clone(), getattr(module, "modelspace_batch", None))))
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _shape(value: Any) -> tuple[int, ...]:
    tensor = _find_tensor(value)
    return () if tensor is None else tuple(tensor.shape[1:])


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- a layer that the user named


def _split(layer: str) -> tuple[str, str]:
    name, _, side = layer.rpartition(":")
    return (name, side) if name and side in ("in", "out") else (layer, "out")


def _named(module: nn.Module, example: Tensor, layer: str) -> Tap:
    if layer == OUTPUT:
        return Tap(OUTPUT, str(LayerChoice(OUTPUT)), module)
    trace = _trace(module, example)
    pattern, side = _split(layer)
    # a converted model's layers are known by the names that they had in its file, too
    pattern = getattr(module, "modelspace_aliases", {}).get(pattern, pattern)
    aliases = {name: part for name, part in module.named_modules(remove_duplicate=False) if name}
    names = {id(part): name for name, part in module.named_modules()}
    hits = [pattern] if pattern in aliases else [name for name in aliases if fnmatch.fnmatchcase(name, pattern)]
    if not hits:
        raise NotFoundError(f"the model has no layer {layer!r}", _near(layer, trace.entered))
    # one module may have several names; hooks know it by the first
    executed = {names[id(aliases[hit])] for hit in hits} & set(trace.calls)
    if not executed:
        raise NotFoundError(
            f"layer {layer!r} is in the model, but the forward pass does not run through it",
            _near(layer, trace.entered),
        )
    order = trace.left if side == "out" else trace.entered
    name = max(executed, key=order.index)
    remarks = [f"the last of {len(executed)} executed layers that match"] if len(executed) > 1 else []
    calls = trace.calls[name]
    if calls > 1:
        remarks.append(f"the last of its {calls} calls")
    choice = LayerChoice(layer, tuple(remarks))
    return Tap(f"{name}:in" if side == "in" else name, str(choice), module, calls)


def _near(layer: str, executed: Sequence[str]) -> str:
    pattern, side = _split(layer)
    suffix = ":in" if side == "in" else ""
    names = [*executed, OUTPUT]
    near = difflib.get_close_matches(pattern, names, 3, 0.4)
    last = [name for name in names if name.rpartition(".")[2] == pattern.rpartition(".")[2]]
    shown = list(dict.fromkeys([*last[:2], *near]))[:3]
    meant = (
        f"did you mean {' or '.join(name + (suffix if name != OUTPUT else '') for name in shown)}? " if shown else ""
    )
    return f"{meant}{_LIST_HINT}"


# --- the encoder output, found

#: Nodes that may lie between the classifier's linear map and the output.
_AFTER_LOGITS_NAMES = """
    AdaptiveAvgPool2D Alias AvgPool2D Clone Expand LogSoftmax Mean NativeDropout Permute Reshape ReshapeAlias Select
    Sigmoid Slice Softmax Squeeze Sum T ToCopy Transpose UnsafeView Unsqueeze View
"""
_AFTER_LOGITS = set(_AFTER_LOGITS_NAMES.split())
_LINEAR_MAPS = {
    "Addmm",
    "Bmm",
    "Linear",
    "Mm",
    "Convolution",
    "CudnnConvolution",
    "MkldnnConvolution",
    "MpsConvolution",
}


def _automatic(module: nn.Module, example: Tensor) -> Tap:
    if isinstance(module, torch.jit.ScriptModule):
        return Tap(OUTPUT, "output: a scripted model has no layers to choose from", module)
    trace = _trace(module, example)
    heads, reason = _classifiers(module, example)
    if len(heads) == 1 and heads[0] in trace.calls:
        name = heads[0]
        calls = trace.calls[name]
        return Tap(f"{name}:in", "input of the last linear map before the class scores", module, calls)
    if len(heads) > 1:
        reason = f"the model has several last linear maps ({', '.join(heads)})"
    return Tap(OUTPUT, f"output: {reason}", module)


def _classifiers(module: nn.Module, example: Tensor) -> tuple[list[str], str]:
    """Names of the modules that own the last linear maps before the output, and why there are none."""
    owner = {id(p): _owner(name) for name, p in module.named_parameters(remove_duplicate=False)}
    weights = [p for p in module.parameters() if p.is_floating_point()]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with ready(module, example) as source:
            output = encoder_output(Tap(OUTPUT, "", module), source, graphical=True)
            graph = Graph(output.grad_fn, source)
        if output.dim() < 2 or output[0].numel() != output.shape[1]:
            return [], f"it has shape {tuple(output.shape[1:])} per image, which are no class scores"
        maps = _last_linear_maps(graph)
        if maps is None:
            return [], "it is no linear map of another layer"
        names = {owner[id(weight)] for weight in maps if id(weight) in owner}
        return sorted(name for name in names if name), "its last linear map belongs to no layer"
    finally:
        for weight in weights:
            weight.requires_grad_(False)


def _owner(parameter: str) -> str:
    """Name of the module that a parameter belongs to: "fc" of "fc.weight" and "fc.parametrizations.weight.original1"."""
    return (
        parameter.partition(".parametrizations.")[0]
        if ".parametrizations." in parameter
        else parameter.rpartition(".")[0]
    )


def _last_linear_maps(graph: Graph) -> list[Tensor] | None:
    """Weights of the linear maps nearest to the output; None where something else comes first."""
    found: list[Tensor] = []
    # a ReLU after a 1 x 1 convolution and before the pooling belongs to the classifier, as in SqueezeNet
    stack: list[tuple[Node, bool]] = [(graph.root, False)]
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
        weight = _weight(graph, node) if kind in _LINEAR_MAPS else None
        if weight is not None:
            convolution = weight.dim() > 2
            if (convolution and any(side != 1 for side in weight.shape[2:])) or (rectified and not convolution):
                return None
            if len(_leaves(graph, [below[i] for i in live])) < 2:
                return None  # nothing but the input comes before it: this is no classifier on top of an encoder
            found.append(weight)
        elif kind == "Relu" or kind in _AFTER_LOGITS or kind in ("Add", "Cat", "Stack", "Div", "Mul", "Sub"):
            if kind in ("Div", "Mul", "Sub") and len(live) > 1:
                return None
            stack += [(below[i], rectified or kind == "Relu") for i in live]
        else:
            return None
    return found or None


def _weight(graph: Graph, node: Node) -> Tensor | None:
    """The matrix or kernel parameter of a linear map whose other factor depends on the input; None if there is none.

    The parameter may lie behind a transposition or a weight normalisation: it is the largest one behind the weight.
    """
    fixed = [function for function in graph.inputs[node] if function is not None and not graph.depends(function)]
    weights = [variable for variable in _leaves(graph, fixed) if variable.dim() >= 2]
    return max(weights, key=torch.numel, default=None)


def _leaves(graph: Graph, nodes: Iterable[Node]) -> list[Tensor]:
    """The leaf tensors that `nodes` are computed from."""
    leaves: list[Tensor] = []
    seen: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if graph.kinds[node] == "AccumulateGrad":
            leaves.append(node.variable)
        stack += [function for function in graph.inputs[node] if function is not None]
    return leaves
