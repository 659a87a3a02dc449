"""Chooses the state dict in a checkpoint by the rules in `RULES`, in the order in which they are tried.

If more than one is possible, none is chosen and the caller is asked for the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from modelspace.errors import ModelspaceError, NotFoundError
from modelspace.names import did_you_mean
from modelspace.sources.archives import Contents

State = dict[str, Any]

#: The rules, as docs/how-to/load-models.md shows them.
RULES = (
    ("a dictionary in the file", "its state dict, under a key made of the words in NESTED, up to five levels deep"),
    ("optimizers, schedulers, options", "never looked into: keys with a word in PASSED_OVER"),
    ("a prefix before names", "the words in PREFIXES are taken off, if the names fit then"),
    ("a wrapper inside names", "the words in WRAPPERS are taken out, if the names fit then"),
    ("entries beside a prefix; values that are no tensors", "left out, with a note"),
    ("several that fit; averaged weights beside raw ones", "refused: ask for one by its key"),
    ("any other key or prefix", "refused, with the key to ask for"),
)

#: A key that consists of these words contains weights: "state_dict", "model_ema", "teacher", "best_model_state_dict".
_NESTED_WORDS = """
    state dict model module net network weight weights param params parameters best last backbone encoder
    raw ema swa average averaged avg shadow teacher student online target
"""
NESTED = frozenset(_NESTED_WORDS.split())

#: A key with one of these words contains averaged weights, which differ from the raw ones and must be asked for.
AVERAGED = frozenset({"ema", "swa", "average", "averaged", "shadow"})

#: A key with one of these words contains the state of a training program.
_PASSED_OVER_WORDS = """
    optimizer optimizers optim opt scheduler schedulers sched scaler amp callbacks loops rng sampler loss losses
    hyper hparams config args
"""
PASSED_OVER = frozenset(_PASSED_OVER_WORDS.split())

#: Prefixes that wrappers add to every name, and names of submodules that are complete models.
PREFIXES = ("module", "_orig_mod", "model", "backbone", "net", "encoder", *sorted(AVERAGED), "teacher", "student")

#: Wrappers of a part of a model: DataParallel, torch.compile, FSDP and its checkpoints.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

_DEPTH = 5
#: Largest number of name prefixes that are tried.
_TRIED = 64

Fits = Callable[[State], bool]


@dataclass(frozen=True)
class Choice:
    """A state dict in a checkpoint.

    Attributes:
        key: its position in the form of `weights_key=`: keys and a prefix, joined by dots; "": the whole file.
        state: name -> tensor, with the module's names.
        prefix: the prefix that was removed from every name, with a dot at its end.
        left_out: other entries, which were not taken.
        stated: whether a rule leads to it; otherwise it is used only if it is asked for.
    """

    key: str
    state: State
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    stated: bool = True


def choose(contents: Contents, fits: Fits, key: str | None = None) -> Choice:
    """Choose a state dict.

    Args:
        contents: of the file.
        fits: whether a state dict has the names that the module needs.
        key: what the caller asks for.

    Returns:
        The one that fits or, if none does, the closest one, for the caller's error.

    Raises:
        NotFoundError: there is nothing under the key.
        ModelspaceError: no state dict, or several that are possible.
    """
    nests = list(_nests(contents.value))
    if key is not None:
        return _asked_for(contents, nests, fits, key)
    if not nests:
        raise _without_state(contents)
    fitting = [choice for place, state in nests for choice in _fitting(place, state, fits)]
    if not fitting:
        return _nearest(nests, fits)
    rivals = [] if any(not choice.key for choice in fitting) else _rivals(contents.value, fitting)
    if len(fitting) > 1 or rivals or not fitting[0].stated:
        raise _ask(contents, fitting, rivals)
    return fitting[0]


def only(contents: Contents, key: str | None = None) -> Choice:
    """Choose a state dict by the keys alone, without a module to compare it with: the only one.

    Raises:
        NotFoundError, ModelspaceError: as `choose`.
    """
    nests = list(_nests(contents.value))
    if key is not None:
        return _asked_for(contents, nests, lambda state: False, key)
    choices = stated(contents)
    if len(choices) > 1:
        raise _ask(contents, choices, [])
    return choices[0]


def stated(contents: Contents) -> list[Choice]:
    """The state dicts in a file, by its keys alone: one, or several of which one has to be asked for.

    Raises:
        ModelspaceError: there is none.
    """
    nests = list(_nests(contents.value))
    nested = [nest for nest in nests if nest[0] and _is_stated(nest[0])]
    # A tensor next to a state dict may be a loss; one with dots in its name belongs to a model.
    whole = [nest for nest in nests if not nest[0] and (not nested or any("." in name for name in nest[1]))]
    meant = [*whole, *nested]
    if not meant:
        raise _without_state(contents)
    return [Choice(place, _tensors_alone(state)[0]) for place, state in meant]


# --- dictionaries inside dictionaries


def _words(key: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", key.lower()) if word]


def _is_stated(place: str) -> bool:
    return all(set(_words(key)) <= NESTED for key in place.split("."))


def _nests(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Every mapping of names to tensors, with the keys that lead to it, joined by dots."""
    if not isinstance(value, Mapping) or depth > _DEPTH:
        return
    if value and all(isinstance(key, str) for key in value) and any(map(_is_tensor, value.values())):
        yield place, cast("State", value)
    for key, inner in value.items():
        if isinstance(inner, Mapping) and isinstance(key, str) and not set(_words(key)) & PASSED_OVER:
            yield from _nests(inner, f"{place}.{key}" if place else key, depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _count(value: Any, depth: int = 0) -> int:
    """Number of tensors in a value, at any depth."""
    if isinstance(value, torch.Tensor):
        return 1
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(_count(each, depth + 1) for each in inner) if depth <= _DEPTH else 0


def _rivals(value: Any, fitting: Sequence[Choice], place: str = "", depth: int = 0) -> list[str]:
    """Keys of averaged weights that don't fit in their form, for example in a list: they may be meant nevertheless."""
    if not isinstance(value, Mapping) or depth > _DEPTH:
        return []
    taken = {choice.key for choice in fitting}
    least = min(sum(map(_is_tensor, choice.state.values())) for choice in fitting) / 2
    rivals = []
    for key, inner in value.items():
        words = set(_words(str(key)))
        here = f"{place}.{key}" if place else str(key)
        above = any(each.startswith(f"{here}.") for each in taken)
        if words & PASSED_OVER or here in taken:
            continue
        if words & AVERAGED and not above and not isinstance(inner, torch.Tensor) and _count(inner) >= max(least, 1):
            rivals.append(here)
        elif isinstance(inner, Mapping):
            rivals += _rivals(inner, fitting, here, depth + 1)
    groups = [str(key).partition(".")[0] for key, inner in value.items() if _is_tensor(inner) and "." in str(key)]
    for group in dict.fromkeys(groups):
        here = f"{place}.{group}" if place else group
        apart = not any(each == here or each.startswith(f"{here}.") for each in taken)
        if apart and set(_words(group)) & AVERAGED and groups.count(group) >= max(least, 1):
            rivals.append(here)
    return list(dict.fromkeys(rivals))


# --- prefixes


def _fitting(place: str, state: State, fits: Fits) -> Iterator[Choice]:
    """The parts of a mapping that fit: all of it, or the entries with a prefix."""
    plain, dropped = _tensors_alone(state)
    if fits(state):
        yield Choice(place, state, stated=not place or _is_stated(place))
        return
    if dropped and fits(plain):
        yield Choice(place, plain, left_out=dropped, stated=not place or _is_stated(place))
        return
    yield from _under_prefixes(place, plain, dropped, fits)


def _under_prefixes(place: str, state: State, dropped: tuple[str, ...], fits: Fits) -> Iterator[Choice]:
    waiting, is_found = [""], False
    for _ in range(_TRIED):
        if not waiting:
            break
        prefix = waiting.pop(0)
        part = _under(state, prefix)
        if prefix and fits(part):
            is_found = True
            yield _with_prefix(place, state, part, prefix, dropped)
            continue
        waiting += [f"{prefix}{head}." for head in _heads(part)]
    unwrapped = None if is_found else _unwrapped(state)
    if unwrapped is not None and fits(unwrapped):
        yield Choice(place, unwrapped, left_out=dropped, stated=not place or _is_stated(place))


def _heads(state: State) -> list[str]:
    """First parts of the names with several parts; those in the rules come first."""
    heads = list(dict.fromkeys(name.partition(".")[0] for name in state if "." in name))
    return sorted(heads, key=lambda head: head not in PREFIXES)[:_TRIED]


def _under(state: State, prefix: str) -> State:
    if not prefix:
        return state
    part = _same_kind(state, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        # torch keeps the versions of the layers next to the names
        plain = prefix.rstrip(".")
        kept = {k.removeprefix(plain).lstrip("."): v for k, v in metadata.items() if f"{k}.".startswith(prefix)}
        cast(Any, part)._metadata = kept
    return part


def _with_prefix(place: str, state: State, part: State, prefix: str, dropped: tuple[str, ...]) -> Choice:
    others = tuple(name for name in state if not name.startswith(prefix))
    words = prefix.rstrip(".").split(".")
    stated = set(words) <= set(PREFIXES) and (not place or _is_stated(place))
    # A prefix of all names is a wrapper's; one of some names is a choice, and its key says so.
    key = f"{place}.{prefix.rstrip('.')}".lstrip(".") if others or not stated else place
    return Choice(key, part, prefix, (*others, *dropped), stated)


def _unwrapped(state: State) -> State | None:
    """The names without the wrappers inside them; None if there are no wrappers, or two names would be equal."""
    names = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in state}
    if len(set(names.values())) < len(names) or all(old == new for old, new in names.items()):
        return None
    return _same_kind(state, {names[name]: value for name, value in state.items()}, keep=True)


def _tensors_alone(state: State) -> tuple[State, tuple[str, ...]]:
    """The entries that are tensors, and the names of the others."""
    dropped = tuple(name for name, value in state.items() if not _is_tensor(value))
    if not dropped:
        return state, ()
    return _same_kind(state, {k: v for k, v in state.items() if _is_tensor(v)}, keep=True), dropped


def _same_kind(state: State, entries: State, keep: bool = False) -> State:
    """The entries in a dictionary that can have the attribute in which torch keeps the versions of the layers."""
    from collections import OrderedDict

    metadata = getattr(state, "_metadata", None)
    if metadata is None:
        return entries
    state_dict = OrderedDict(entries)
    if keep:
        cast(Any, state_dict)._metadata = metadata
    return state_dict


# --- what the caller asks for


def _asked_for(contents: Contents, nests: Sequence[tuple[str, State]], fits: Fits, key: str) -> Choice:
    state = _found(contents.value, key)
    if state is None:
        places = [place for place, _ in nests if place]
        prefixes = [f"{place}.{head}".lstrip(".") for place, nest in nests for head in _heads(nest)[:8]]
        otherwise = did_you_mean(key, prefixes, f"it has {_shown(places or prefixes or ['no state dict'])}")
        raise NotFoundError(
            f"nothing lies under `weights_key={key!r}` in {contents.path}", did_you_mean(key, places, otherwise)
        )
    inside = [choice for place, nest in _nests(state) for choice in _fitting(place, nest, fits)]
    if len(inside) > 1:
        named = [Choice(f"{key}.{each.key}".rstrip("."), each.state) for each in inside]
        raise _ask(contents, named, [])
    if inside:
        below = f"{key}.{inside[0].key}".rstrip(".")
        return Choice(below, inside[0].state, inside[0].prefix, inside[0].left_out)
    if not isinstance(state, Mapping) or not _count(state):
        raise ModelspaceError(
            f"what lies under `weights_key={key!r}` in {contents.path} is a {type(state).__name__}, not a state dict",
            f"it has {_shown([place or 'the whole file' for place, _ in nests])}",
        )
    plain = next((nest for _, nest in _nests(state)), cast("State", state))
    return Choice(key, plain)


def _found(value: Any, key: str) -> Any:
    """The value under a dotted key, which may end with a prefix of names; None if there is none."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    for end in range(len(key) - 1, 0, -1):
        if key[end] == "." and key[:end] in value:
            inner = _found(value[key[:end]], key[end + 1 :])
            if inner is not None:
                return inner
    if all(isinstance(name, str) for name in value):
        part = _under(cast("State", value), f"{key}.")
        return part if part else None
    return None


# --- if none or several fit


def _nearest(nests: Sequence[tuple[str, State]], fits: Fits) -> Choice:
    """The mapping with the most tensors, without wrappers' prefixes of all of its names."""
    place, state = max(nests, key=lambda nest: sum(map(_is_tensor, nest[1].values())))
    plain = state
    for _ in range(_DEPTH):
        prefix = next((f"{p}." for p in PREFIXES[:3] if all(name.startswith(f"{p}.") for name in plain)), None)
        if prefix is None:
            break
        plain = _under(plain, prefix)
    return Choice(place, plain)


def _ask(contents: Contents, fitting: Sequence[Choice], rivals: Sequence[str]) -> ModelspaceError:
    keys = list(dict.fromkeys([*(choice.key or "the whole file" for choice in fitting), *rivals]))
    shown = [f"`weights_key={choice.key!r}`" for choice in fitting if choice.key]
    if len(keys) == 1:
        return ModelspaceError(
            f"{contents.path} holds a state dict that fits under {keys[0]!r}, which no rule covers",
            f"if that is the one, say so with {shown[0]}",
        )
    hint = f"say which with {' or '.join(shown[:4])}" if shown else "save the one you mean in a file of its own"
    averaged = [key for key in keys if set(_words(key)) & AVERAGED]
    if rivals:
        hint += f"; what lies under {', '.join(rivals[:3])} has other names than the module"
    elif averaged:
        hint += f"; {averaged[0]} holds averaged weights, by its name, and most often those are the published ones"
    return ModelspaceError(f"{contents.path} has several state dicts: {', '.join(keys[:8])}", hint)


def _without_state(contents: Contents) -> ModelspaceError:
    value = contents.value
    seen = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        seen = f"a dict with {_shown([str(key) for key in value])}" if value else "an empty dict"
    return ModelspaceError(
        f"no state dict was found in {contents.path}, but {seen}",
        "a state dict is a dictionary of names and tensors, alone or under a key such as state_dict or model",
    )


def _shown(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
