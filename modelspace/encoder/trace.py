"""A forward pass with hooks on every module: the tensors at the borders of modules, and how far the pass got.

A *tap* is the name of a tensor: "layer4" is that module's output, "fc:in" its first input, "backbone:1" or
"output:pred_boxes" one part of an output with several, and "output" the output of the whole model. If a module is
called several times, its taps are those of the last call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import CODE_FAILURES, as_exception, ready
from modelspace.attribution.graph import Graph, Node
from modelspace.attribution.memory import is_out_of_memory
from modelspace.encoder import outputs
from modelspace.encoder.batches import batch_size, filled

OUTPUT = "output"

#: A position in the autograd graph: the node that produced a tensor, and the index of the tensor among its outputs.
Edge = tuple[Node, int]


@dataclass(frozen=True)
class Point:
    """A tensor at the border of a module.

    Attributes:
        tap: its name.
        module: name of the module; "" for the whole model.
        path: which part of the module's output it is; "" for the part that the module's name stands for.
        shape: with the batch axis.
        dtype: its dtype.
        edge: its position in the autograd graph; None without a gradient.
        time: position of the border in the order in which the pass crossed them.
        given: whether it is an input of the module, not an output.
    """

    tap: str
    module: str
    path: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    edge: Edge | None
    time: int
    given: bool = False

    @property
    def plain(self) -> bool:
        """Whether the module's name alone, or with ":in", stands for it."""
        return self.path == ""


@dataclass
class Trace:
    """The record of a forward pass.

    Attributes:
        module: the model, without wrappers.
        batch: number of images in the pass.
        entered: names of modules in the order of first entry.
        left: names of modules that finished, in the order of last exit.
        calls: name -> number of calls.
        points: tap -> tensor, of the last call of each module. Each part of an output with several is also a point.
        empty: taps of modules, or of the model, whose output contains no tensor.
        path: the main part of the model's output, for example "logits"; "" if the output is a single tensor.
        error: the exception that ended the pass early; None if it was completed.
        inside: if the pass ended early, the modules that were running then, outermost first.
    """

    module: nn.Module
    source: Tensor
    batch: int
    entered: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    path: str = ""
    error: Exception | None = None
    inside: list[str] = field(default_factory=list)
    time: int = 0
    _borders: dict[tuple[str, bool], list[str]] = field(default_factory=dict)
    _larger: dict[str, tuple[int, ...]] | None = None

    @property
    def output(self) -> Point | None:
        """The main part of the model's output; None if it contains no tensor, or the pass was not completed."""
        return self.points.get(OUTPUT)

    def parts(self, name: str) -> list[Point]:
        """The tensors in a module's output, including the main one; `name` = "" is the whole model."""
        own = [self.points[tap] for tap in self._borders.get((name, False), ())]
        return [point for point in own if not point.plain] or own

    @cached_property
    def graph(self) -> Graph:
        """The autograd graph between the input and the tensors at the borders of modules."""
        roots = [point.edge[0] for point in self.points.values() if point.edge is not None]
        with torch.inference_mode(False), torch.enable_grad():
            return Graph(roots[-1] if roots else None, self.source, roots)

    def depends(self, edge: Edge | None) -> bool:
        """Whether a tensor depends on the image differentiably."""
        return edge is not None and self.graph.depends(edge[0])

    def refusal(self, point: Point) -> str:
        """Why a tensor can't be explained; empty if it can."""
        if not point.dtype.is_floating_point:
            return f"its type is {str(point.dtype).removeprefix('torch.')}, which has no gradient"
        if 0 in point.shape:
            return "it is empty"
        if not self.depends(point.edge):
            return "it does not depend on the image in a way that has a gradient"
        if not point.shape or point.shape[0] != self.batch:
            first = f"its first axis, {point.shape[0]}, is" if point.shape else "it has no axes, so that there is"
            return f"{first} not the batch" if point.shape else f"{first} none for the batch"
        larger = (self._larger or {}).get(point.tap)
        if larger is not None and (not larger or larger[0] != self.batch + 1):
            return f"its first axis is {point.shape[0]} for any number of images"
        return ""

    def usable(self, point: Point) -> bool:
        """Whether the tensor can be explained."""
        return not self.refusal(point)

    def compare_batches(self) -> None:
        """Run with one image more, so that an axis that happens to be as long as the batch is not mistaken for it."""
        if self._larger is not None or self.error is not None or batch_size(self.module) is not None:
            return
        self._larger = {}
        x = self.source.detach()
        other = trace(self.module, torch.cat([x, x[-1:]]))
        if other.error is None:
            self._larger = {tap: point.shape for tap, point in other.points.items()}

    def keep(self, name: str, value: Any, given: bool) -> None:
        """Record the tensors in a module's input or output; "" is the whole model."""
        own = name or OUTPUT
        tap = f"{own}:in" if given else own
        for earlier in self._borders.pop((name, given), ()):
            del self.points[earlier]
        self.empty.discard(tap)
        meant = outputs.main(value)
        if meant is None:
            self.empty.add(tap)
            return
        if not name:
            self.path = meant[0]
        points = [_point(tap, name, "", meant[1], self.time, given)]
        tensors = outputs.parts(value) if meant[0] and not given else {}
        if len(tensors) > 1:
            points += [_point(f"{own}:{path}", name, path, each, self.time, given) for path, each in tensors.items()]
        self.points.update((point.tap, point) for point in points)
        self._borders[name, given] = [point.tap for point in points]
        self.time += 1


def unwrap(module: nn.Module) -> nn.Module:
    """The model inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def trace(module: nn.Module, example: Tensor, *, weights: bool = False) -> Trace:
    """Run the model once and record the pass.

    Args:
        module: the model, without wrappers, frozen.
        example: (B, C, H, W), preprocessed; at least two images, since a single one hides the batch axis.
        weights: whether the parameters are leaves of the graph too, so that linear maps are recognised by their
            weights.

    Returns:
        The record. An exception of the model is stored in it, except running out of memory, which is raised.
    """
    # with gradients, as in the later passes: without them some of torch's modules run fused and call no submodules
    with ready(module, example) as source, _differentiable(module if weights else None):
        x = filled(source.clone(), batch_size(module))
        record = Trace(module, source, len(x))
        with _watched(record):
            try:
                record.keep("", module(x), given=False)
            except CODE_FAILURES as error:
                if is_out_of_memory(error):
                    raise
                record.error = as_exception(error)
            else:
                record.inside.clear()
    return record


@contextmanager
def _differentiable(module: nn.Module | None) -> Iterator[None]:
    """Set requires_grad of the parameters."""
    weights = [] if module is None else [p for p in module.parameters() if p.is_floating_point()]
    weights = [p for p in weights if not p.is_inference() and not p.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)


@contextmanager
def _watched(record: Trace) -> Iterator[None]:
    handles = []

    def enter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name not in record.calls:
            record.entered.append(name)
        record.calls[name] = record.calls.get(name, 0) + 1
        record.inside.append(name)
        record.keep(name, outputs.first_input(args, kwargs), given=True)

    def leave(name: str, value: Any) -> None:
        if name in record.left:
            record.left.remove(name)
        record.left.append(name)
        if name in record.inside:
            del record.inside[len(record.inside) - 1 - record.inside[::-1].index(name) :]
        record.keep(name, value, given=False)

    try:
        for name, part in record.module.named_modules():
            if not name or isinstance(part, torch.jit.ScriptModule):
                continue  # a scripted module runs in C++ and takes no hooks
            before = part.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: enter(name, args, kwargs), with_kwargs=True
            )
            handles += [before, part.register_forward_hook(lambda _, args, value, name=name: leave(name, value))]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _point(tap: str, name: str, path: str, tensor: Tensor, time: int, given: bool) -> Point:
    edge = None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)
    shape = () if tensor.is_nested else tuple(tensor.shape)  # the rows of a nested tensor differ in length
    return Point(tap, name, path, shape, tensor.dtype, edge, time, given)
