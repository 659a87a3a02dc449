"""Weights files: read without running code, checked against the module, then copied into it.

`modelspace.sources.archives` reads the file, `modelspace.sources.checkpoints` finds the state dict in it,
`modelspace.sources.fit` compares it with the module, and this module puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from modelspace.errors import ModelspaceError
from modelspace.sources.archives import Contents, is_part, line, read
from modelspace.sources.base import WeightsFile
from modelspace.sources.checkpoints import Choice, State, choose, only
from modelspace.sources.differences import table
from modelspace.sources.fit import Fit, fit, lossy, writable

if TYPE_CHECKING:
    from torch import nn

_LISTED = 3

#: A part of a file with fewer than this share of the module's names is not tried: it can't fit.
_LEAST = 1 / 3


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded from a weights file.

    Attributes:
        tags: "weights", the file as the user wrote it, and "weights_key", the state dict in it if it is not the whole
            file.
        notes: for the user: what was chosen, and what was left out.
    """

    tags: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def with_versions(state: State, module: nn.Module) -> State:
    """A copy of a state dict with the versions of a module's layers, as `module.state_dict()` has them."""
    # torch keeps the versions in a private attribute of the dict.
    versioned: State = module.state_dict()
    versioned.clear()
    versioned.update(state)
    return versioned


def load_weights(module: nn.Module, weights: str) -> LoadedWeights:
    """Copy the weights in a file into a module. Names and shapes must agree exactly.

    The module's own hooks may rename entries. `modelspace.sources.checkpoints.RULES` determines which state dict of a
    checkpoint is loaded, and `modelspace.sources.fit.lossy` which types are converted.

    Args:
        module: changed in place. Tensors on the meta device are replaced by those of the file.
        weights: a file, an index of parts, or the folder of one.

    Raises:
        NotFoundError: no such file, or nothing under the key that was asked for.
        ModelspaceError: not a weights file, one that would run code, one with several state dicts of which none is
            asked for, or one that doesn't fit the module. Nothing was copied.
    """
    place = _file(weights)
    module = _unwrapped(module)
    contents = read(Path(place))
    choice, state, fitted = _chosen(contents, module, place.key)
    _check_names(fitted, choice, module, contents)
    _check_shapes(fitted, module, contents)
    _check_types(fitted, module, contents)
    own = module.state_dict()
    assign = any(isinstance(tensor, Tensor) and tensor.device.type == "meta" for tensor in own.values())
    if assign:
        state = _converted(state, own)
    try:
        with writable(module):
            module.load_state_dict(state, strict=False, assign=assign)
    except Exception as error:
        raise _failed(module, contents, error) from error
    return _taken(place, choice, fitted)


def read_state(weights: str, module: nn.Module | None = None) -> tuple[State, LoadedWeights]:
    """The state dict in a file by name, with tensors that may be memory-mapped; and what it is, for tags and notes.

    Args:
        weights: as in `load_weights`.
        module: a module with the names that are needed; None, or one that no state dict fits: the only one in the file.

    Raises:
        NotFoundError, ModelspaceError: as `load_weights`, but for the fit.
    """
    place = _file(weights)
    contents = read(Path(place))
    choice, fitted = None, Fit()
    if module is not None:
        choice, _, fitted = _chosen(contents, module, place.key)
    if choice is None or not fitted.names_fit:
        choice, fitted = only(contents, place.key), Fit()
    return choice.state, _taken(place, choice, fitted)


def _file(weights: str) -> WeightsFile:
    return weights if isinstance(weights, WeightsFile) else WeightsFile(weights)


def _unwrapped(module: nn.Module) -> nn.Module:
    """The model inside wrappers whose prefix would precede every name."""
    from modelspace.encoder.layers import unwrap

    return unwrap(module)


def _chosen(contents: Contents, module: nn.Module, key: str | None) -> tuple[Choice, State, Fit]:
    """The chosen state dict, as the module accepts it, and how it fits."""
    results: dict[int, tuple[State, Fit, State]] = {}
    own = module.state_dict()

    def fits(state: State) -> bool:
        if len(state) < _LEAST * len(own):
            return False
        _check_claims(state, own, contents)
        fitted, versioned = fit(state, module)
        results[id(state)] = (state, fitted, versioned)
        return fitted.names_fit

    choice = choose(contents, fits, key)
    if id(choice.state) not in results:
        _check_claims(choice.state, own, contents)
        fitted, versioned = fit(choice.state, module)
    else:
        _, fitted, versioned = results[id(choice.state)]
    return choice, versioned, fitted


def _check_claims(state: State, own: Mapping[str, Any], contents: Contents) -> None:
    """Refuse tensors that claim more than the file contains, for which memory would be allocated."""
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.numel() * value.element_size() <= contents.size:
            continue
        target = own.get(name)
        if not isinstance(target, Tensor) or is_lazy(target) or value.shape != target.shape:
            raise ModelspaceError(
                f"{contents.path} is refused: {name} claims {value.numel():,} elements, "
                f"and the file has {contents.size:,} bytes"
            )


def _check_names(fitted: Fit, choice: Choice, module: nn.Module, contents: Contents) -> None:
    own = module.state_dict()
    for name, value in choice.state.items():
        if isinstance(own.get(name), Tensor) and not isinstance(value, Tensor):
            raise ModelspaceError(f"the entry {name} in {contents.path} is a {type(value).__name__}, not a tensor")
    if fitted.error is not None and not (fitted.missing or fitted.strangers):
        raise _failed(module, contents, fitted.error) from fitted.error
    if not fitted.missing and not fitted.strangers:
        return
    missing, strangers = fitted.missing, fitted.strangers
    parts = [f"lack {len(missing)} of its weights ({_some(missing)})"] if missing else []
    parts += [f"have {len(strangers)} unknown to it ({_some(strangers)})"] if strangers else []
    lines = table(
        {name: _shape(own.get(name)) for name in missing},
        {name: _shape(choice.state.get(name)) for name in strangers},
    )
    hint = "is it the architecture that these weights were trained in?"
    if is_part(contents.path):
        hint = "the file is one part of several: name their index (.index.json), or its folder"
    under = f" under {choice.key!r}" if choice.key else ""
    raise ModelspaceError(
        f"the weights{under} in {contents.path} don't fit {type(module).__name__}: they {' and '.join(parts)}",
        "\n  ".join([hint, *lines]),
    )


def _check_shapes(fitted: Fit, module: nn.Module, contents: Contents) -> None:
    wrong = [f"{name} is {file} in the file and {own} in the module" for name, (file, own) in fitted.shapes.items()]
    hint = "does the factory build the size of network, and the number of classes, that these weights have?"
    _refuse(wrong, module, contents, hint)


def _check_types(fitted: Fit, module: nn.Module, contents: Contents) -> None:
    wrong = [f"{name} is {why}" for name, target, value in fitted.copies if (why := lossy(target, value))]
    hint = "convert them where their scale or meaning is known, and save them as real numbers"
    _refuse(wrong, module, contents, hint)


def _refuse(wrong: Sequence[str], module: nn.Module, contents: Contents, hint: str) -> None:
    """Raise ModelspaceError if anything is wrong, with the first few reasons."""
    if not wrong:
        return
    more = f", and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
    raise ModelspaceError(
        f"the weights in {contents.path} don't fit {type(module).__name__}: {'; '.join(wrong[:_LISTED])}{more}", hint
    )


def _converted(state: State, own: Mapping[str, Any]) -> State:
    """The state dict in the module's dtypes, for a module on the meta device, which takes the tensors as they are."""
    metadata = getattr(state, "_metadata", None)
    converted = type(state)(state)
    for name, value in state.items():
        target = own.get(name)
        if isinstance(value, Tensor) and isinstance(target, Tensor) and target.is_floating_point():
            converted[name] = value.to(target.dtype, copy=True)
    if metadata is not None:
        cast(Any, converted)._metadata = metadata
    return converted


def _failed(module: nn.Module, contents: Contents, error: Exception) -> ModelspaceError:
    return ModelspaceError(
        f"the weights in {contents.path} can't be loaded into {type(module).__name__}: {line(error)}"
    )


def _taken(place: WeightsFile, choice: Choice, fitted: Fit) -> LoadedWeights:
    tags = {"weights": place.given}
    notes = []
    name = Path(place).name
    if choice.key:
        tags["weights_key"] = choice.key
        notes.append(f"the weights are those under `weights_key={choice.key!r}` in {name}")
    if choice.left_out:
        count = len(choice.left_out)
        entries = "entry" if count == 1 else "entries"
        notes.append(f"{count} other {entries} of {name} left out: {_some(list(choice.left_out))}")
    if fitted.old:
        notes.append(f"{name} has names of an older version of the model, which were translated")
    return LoadedWeights(tags, tuple(notes))


def _shape(tensor: object) -> str:
    if not isinstance(tensor, torch.Tensor) or is_lazy(tensor):
        return type(tensor).__name__
    return "x".join(map(str, tensor.shape)) or "a single number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
