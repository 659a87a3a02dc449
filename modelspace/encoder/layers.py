"""The encoder output T: the tensor of a model's forward pass that is explained, chosen automatically or named.

A layer is named as in `named_modules`: "layer4" is that module's output, "fc:in" its first input, "output" the output
of the whole model; "output:pred_boxes" and "backbone:1" are parts of an output with several.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.attribution.engine import encoder_output, ready
from modelspace.attribution.state import frozen
from modelspace.encoder.batches import in_batches
from modelspace.encoder.causes import failure
from modelspace.encoder.choice import Candidate, Chooser
from modelspace.encoder.outputs import first_input, first_tensor, part
from modelspace.encoder.trace import OUTPUT, Point, Trace, trace, unwrap
from modelspace.errors import EmbeddingError, ModelspaceError, NotFoundError
from modelspace.types import LayerChoice

__all__ = [
    "Candidate",
    "LayerRow",
    "Survey",
    "Tap",
    "before_last",
    "executed_layers",
    "find_encoder_output",
    "first_tensor",
    "in_batches",
    "survey",
    "unwrap",
]

_LIST_HINT = "`space.layers(model)` lists them"


@dataclass(frozen=True)
class LayerRow:
    """One module that the forward pass runs through.

    Attributes:
        name: in the form that `layer` accepts.
        kind: the module's class.
        shape: of its output, without the first axis; of its last call if it is called several times.
        parameters: number of parameters, including those of its submodules.
        calls: number of calls in one forward pass.
        refusal: why its output can't be explained; empty if it can.
        input_refusal: likewise for its first input.
        candidates: (layer, reason) of the tensors at its borders that could be the encoder output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    calls: int
    refusal: str = field(default="", compare=False)
    input_refusal: str = field(default="", compare=False)
    candidates: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Survey:
    """The modules that a forward pass runs through, and the tensors that can be explained.

    Attributes:
        rows: the executed modules, in the order in which the pass enters them; last the whole model, "output", if
            the pass was completed.
        tap: the encoder output; None if there is none.
        refusal: why there is none.
        candidates: all tensors that it could be, the choice first.
        complete: whether the forward pass was completed.
    """

    rows: list[LayerRow]
    tap: Tap | None
    refusal: ModelspaceError | None
    candidates: tuple[Candidate, ...]
    complete: bool


class _Reached(BaseException):
    """Ends a forward pass once T is computed. Not an Exception, so that no `except` in a model swallows it."""


@dataclass(frozen=True)
class Tap:
    """Reads T from a model.

    If a module is called several times in one forward pass, T is taken from its last call.

    Attributes:
        layer: "fc:in", "layer4", "output": in the form that `layer` accepts.
        found_by: how it was chosen, a `modelspace.types.LayerChoice` as text.
        module: the whole model.
        calls: number of calls of the tapped module in a forward pass; if it is 1, the pass ends there.
    """

    layer: str
    found_by: str
    module: nn.Module = field(repr=False)
    calls: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """T of the batch `x`, (B, ...), in the caller's gradient mode; (B, 1) if T is one number per image.

        Raises:
            EmbeddingError: the forward pass did not reach the layer, or the layer returns no tensor.
        """
        output = in_batches(self.module, self._take, x)
        return output[:, None] if output.dim() == 1 else output

    def _take(self, x: Tensor) -> Tensor:
        place = _place(self.module, self.layer)
        if place.name == OUTPUT:
            return place.tensor(self.module(x))
        box: list[Tensor] = []

        def keep(tensor: Tensor) -> None:
            if self.calls == 1:
                box.append(tensor)
                raise _Reached
            # later layers may change it in place
            box[:] = [tensor.clone()]

        layer = self.module.get_submodule(place.name)
        if place.given:
            handle = layer.register_forward_pre_hook(
                lambda _, args, kwargs: keep(_input(args, kwargs)), with_kwargs=True
            )
        else:
            handle = layer.register_forward_hook(lambda _, args, value: keep(place.tensor(value)))
        try:
            self.module(x)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not box:
            raise EmbeddingError(f"the forward pass did not reach layer {self.layer!r}", _LIST_HINT)
        return box[0]


def _input(args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    tensor = first_input(args, kwargs)
    return first_tensor((*args, *kwargs.values())) if tensor is None else tensor


def find_encoder_output(module: nn.Module, example: Tensor, layer: str | None = None) -> Tap:
    """The tap of a module: the layer that the user named, else the encoder output (`modelspace.encoder.choice`).

    Args:
        module: the model; wrappers such as DataParallel and torch.compile's are removed.
        example: (2, C, H, W), preprocessed; two images, since a single one hides the batch axis.
        layer: None, a module's name or a glob of names (the last one that finishes is taken), optionally followed by
            ":in", ":out", or a colon and a part of its output; or "output".

    Raises:
        NotFoundError: no such layer, or one that the forward pass does not run through; the hint has similar names.
        EmbeddingError: the forward pass fails, or nothing in it can be explained.
    """
    module = unwrap(module)
    with frozen(module):
        if _is_automatic(layer):
            return _automatic(trace(module, example, weights=True), example)
        return _named(trace(module, example), example, str(layer).strip())


def executed_layers(module: nn.Module, example: Tensor) -> list[LayerRow]:
    """The executed modules, in the order in which the forward pass enters them; last the whole model, "output".

    Args:
        module: the model.
        example: (2, C, H, W), preprocessed.

    Raises:
        EmbeddingError: the forward pass fails.
    """
    module = unwrap(module)
    with frozen(module):
        record = trace(module, example)
        if record.error is not None:
            raise failure(record, example) from record.error
        record.compare_batches()
        return _rows(record)


def survey(module: nn.Module, example: Tensor, layer: str | None = None) -> Survey:
    """List what can be tapped, for a user who looks for a layer; also if the forward pass or the search for T fails.

    Args:
        module: as for `find_encoder_output`.
        example: as for `find_encoder_output`.
        layer: as for `find_encoder_output`.
    """
    module = unwrap(module)
    with frozen(module):
        record = trace(module, example, weights=True)
        record.compare_batches()
        tap: Tap | None = None
        refusal: ModelspaceError | None = None
        try:
            tap = _automatic(record, example) if _is_automatic(layer) else _named(record, example, str(layer).strip())
        except ModelspaceError as error:
            refusal = error
        scripted = isinstance(module, torch.jit.ScriptModule)
        candidates = () if scripted or record.error is not None else tuple(Chooser(record).candidates())
        return Survey(_rows(record, candidates), tap, refusal, candidates, record.error is None)


def before_last(module: nn.Module, example: Tensor, tap: Tap) -> Tap | None:
    """The tap of the tensor before the softmax, sigmoid or norm that a tap's T ends in.

    Reshapes, means, and scaling by constants may lie between that tensor and T. Norms and softmaxes that are written as
    quotients are recognised too.

    Args:
        module: the model.
        example: (2, C, H, W), preprocessed.
        tap: a tap of this model.

    Returns:
        None if T ends in something else, or no named tensor lies before it.
    """
    module = unwrap(module)
    with frozen(module):
        record = trace(module, example, weights=True)
        point = record.points.get(tap.layer)
        if record.error is not None or point is None or not record.depends(point.edge):
            return None
        assert point.edge is not None
        retreat = Chooser(record).before_last(point.edge)
        if retreat is None:
            return None
        earlier, kind = retreat
        text = f"the last layer before the {kind} in which {tap.layer} ends"
        return Tap(earlier.tap, str(LayerChoice(None, (text,))), module, record.calls.get(earlier.module, 1))


def _is_automatic(layer: str | None) -> bool:
    return layer is None or layer in ("", "auto")


def _automatic(record: Trace, example: Tensor) -> Tap:
    module = record.module
    if record.error is not None:
        raise failure(record, example) from record.error
    if isinstance(module, torch.jit.ScriptModule):
        return Tap(OUTPUT, "output: a scripted model has no layers to choose from", module)
    choice = Chooser(record).choose()
    if choice is None:
        with ready(module, example) as source:
            # raises an error that says what is wrong with the output
            encoder_output(Tap(OUTPUT, "", module), source, graphical=True)
        raise EmbeddingError("the model has no tensor that can be explained", _LIST_HINT)
    name = record.points[choice.layer].module
    return Tap(choice.layer, str(LayerChoice(None, (choice.reason,))), module, record.calls.get(name, 1))


# --- the modules that a forward pass runs through


def _rows(record: Trace, candidates: Sequence[Candidate] = ()) -> list[LayerRow]:
    modules = dict(record.module.named_modules())
    rows = []
    for name in record.entered:
        part = modules[name]
        given = record.points.get(f"{name}:in")
        rows.append(
            LayerRow(
                name,
                getattr(part, "modelspace_kind", type(part).__name__),
                _shape(record.points.get(name)),
                _size(part),
                record.calls[name],
                _refusal(record, name),
                "it is given no tensor" if given is None else record.refusal(given),
                _of_module(candidates, name, record),
            )
        )
    if record.error is None:
        kind = type(record.module).__name__
        own = _of_module(candidates, "", record)
        shape, refusal = _shape(record.output), _refusal(record, OUTPUT)
        rows.append(LayerRow(OUTPUT, kind, shape, _size(record.module), 1, refusal, "", own))
    return rows


def _refusal(record: Trace, tap: str) -> str:
    point = record.points.get(tap)
    if point is not None:
        return record.refusal(point)
    return "it gives no tensor" if tap in record.empty else "the forward pass fails before its end"


def _of_module(candidates: Sequence[Candidate], name: str, record: Trace) -> tuple[tuple[str, str], ...]:
    return tuple((each.layer, each.reason) for each in candidates if record.points[each.layer].module == name)


def _shape(point: Point | None) -> tuple[int, ...]:
    return () if point is None else point.shape[1:]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- names


@dataclass(frozen=True)
class _Place:
    """A parsed layer name: the module, whether its input is meant, and the part of its output."""

    name: str
    given: bool = False
    path: str = ""

    @property
    def tap(self) -> str:
        suffix = "in" if self.given else self.path
        return f"{self.name}:{suffix}" if suffix else self.name

    def tensor(self, value: Any) -> Tensor:
        return part(value, self.path) if self.path else first_tensor(value)


def _place(module: nn.Module, layer: str) -> _Place:
    """Parse an exact name; the text after a colon is part of the name if a module has that name."""
    if ":" not in layer:  # in every forward pass: a list of all modules takes as long as some layers
        return _Place(layer)
    names = {OUTPUT, *(name for name, _ in module.named_modules(remove_duplicate=False))}
    return _split(layer, names)


def _split(layer: str, names: set[str]) -> _Place:
    if layer in names:
        return _Place(layer)
    for position in (i for i in range(len(layer) - 1, 0, -1) if layer[i] == ":"):
        name, suffix = layer[:position], layer[position + 1 :]
        if name in names or suffix in ("in", "out"):
            return _Place(name, suffix == "in", "" if suffix in ("in", "out") else suffix)
    return _Place(layer)


# --- a layer that the user named


def _named(record: Trace, example: Tensor, layer: str) -> Tap:
    module = record.module
    # a converted model's layers are also known by the names that they have in its file
    aliases: dict[str, str] = getattr(module, "modelspace_aliases", {})
    parts = {name: part for name, part in module.named_modules(remove_duplicate=False) if name}
    place = _split(layer, {OUTPUT, *aliases, *parts})
    if place.name == OUTPUT:
        _check_reached(record, example, place)
        return Tap(place.tap, str(LayerChoice(layer)), module)
    pattern = aliases.get(place.name, place.name)
    names = {id(part): name for name, part in module.named_modules()}
    hits = [pattern] if pattern in parts else [name for name in parts if fnmatch.fnmatchcase(name, pattern)]
    if not hits:
        raise NotFoundError(f"the model has no layer {layer!r}", _near(layer, record.entered))
    # a module may have several names; hooks use the first
    executed = {names[id(parts[hit])] for hit in hits} & set(record.entered if place.given else record.left)
    if not executed:
        if record.error is not None:
            raise failure(record, example) from record.error
        raise NotFoundError(
            f"layer {layer!r} is in the model, but the forward pass does not run through it",
            _near(layer, record.entered),
        )
    order = record.entered if place.given else record.left
    name = max(executed, key=order.index)
    place = replace(place, name=name)
    _check_reached(record, example, place)
    remarks = [f"the last of {len(executed)} executed layers that match"] if len(executed) > 1 else []
    calls = record.calls[name]
    if calls > 1:
        remarks.append(f"the last of its {calls} calls")
    return Tap(place.tap, str(LayerChoice(layer, tuple(remarks))), module, calls)


def _check_reached(record: Trace, example: Tensor, place: _Place) -> None:
    """Refuse a layer that the pass did not reach, and a part that its output does not have."""
    reached = place.name in record.left or (place.given and place.name in record.entered)
    if record.error is not None and not reached:
        raise failure(record, example) from record.error
    if place.path and place.tap not in record.points:
        known = [point.path for point in record.parts("" if place.name == OUTPUT else place.name) if point.path]
        hint = f"its parts are {', '.join(known[:8])}" if known else "it is one tensor: leave the part out"
        raise NotFoundError(f"the output of {place.name} has no part {place.path!r}", hint)


def _near(layer: str, executed: Sequence[str]) -> str:
    place = _split(layer, set(executed))
    suffix = ":in" if place.given else ""
    names = [*executed, OUTPUT]
    near = difflib.get_close_matches(place.name, names, 3, 0.4)
    last = [name for name in names if name.rpartition(".")[2] == place.name.rpartition(".")[2]]
    shown = list(dict.fromkeys([*last[:2], *near]))[:3]
    if not shown:
        first = list(dict.fromkeys(name.partition(".")[0] for name in executed if name))[:6]
        return f"it has {', '.join([*first, OUTPUT])}, and layers below these; {_LIST_HINT}"
    meant = " or ".join(name + (suffix if name != OUTPUT else "") for name in shown)
    return f"did you mean {meant}? {_LIST_HINT}"
