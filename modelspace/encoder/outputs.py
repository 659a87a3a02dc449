"""Values that contain several tensors: a model's output, or a layer's inputs and outputs.

A tensor inside such a value has a *path*: the keys and positions that lead to it, "feature_maps.3" for example. The
path of a value that is a tensor itself is "".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from modelspace.errors import EmbeddingError

#: Keys of the main tensor in an output with named parts, the most informative first.
KEYS = (
    *("logits", "pooler_output", "last_hidden_state", "x_norm_clstoken", "out"),
    *("features", "feature_maps", "hidden_states"),
)

#: Keys of sequences whose last tensor is the deepest, unless they form a pyramid.
_BY_DEPTH = ("feature_maps", "hidden_states")

#: Largest depth and number of tensors that are searched: a decoder's caches hold hundreds that are not outputs.
_DEPTH, _MOST = 6, 200

_Part = tuple[str, Tensor]


def first_tensor(value: Any) -> Tensor:
    """The main tensor of an output (`main`).

    Raises:
        EmbeddingError: there is none.
    """
    known = main(value)
    if known is None:
        raise EmbeddingError(
            f"the layer gives {type(value).__name__}, in which there is no tensor", "choose another `layer=`"
        )
    return known[1]


def main(value: Any) -> _Part | None:
    """Path and tensor of an output's main part.

    A tensor is its own main part; else it is the most informative entry of a mapping or dataclass, the deepest map of a
    feature pyramid, the first entry of a tuple or the last of a list. Integer and boolean tensors count only if there
    are no floating-point ones. None if there is no tensor.
    """
    return _main(value, "", _DEPTH, set())


def first_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The main tensor of the first argument that contains one."""
    for value in (*args, *kwargs.values()):
        if (known := main(value)) is not None:
            return known[1]
    return None


def parts(value: Any) -> dict[str, Tensor]:
    """Path -> tensor, for all tensors in an output, in their order."""
    tensors: dict[str, Tensor] = {}
    for path, tensor in _walk(value, "", _DEPTH, set()):
        if len(tensors) == _MOST:
            break
        tensors[path] = tensor
    return tensors


def part(value: Any, path: str) -> Tensor:
    """The tensor at a path.

    Raises:
        EmbeddingError: there is none.
    """
    tensors = parts(value)
    if path not in tensors:
        shown = ", ".join(list(tensors)[:6]) or "no tensor"
        raise EmbeddingError(f"the output has no part {path!r}", f"its parts are {shown}")
    return tensors[path]


def coarsest(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Index of the pyramid level with the fewest positions; None if the shapes are not those of a pyramid.

    A pyramid consists of maps (B, C, H, W) or (B, H, W, C) with one aspect ratio and several sizes.
    """
    if len(shapes) < 2 or any(len(shape) != 4 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        return None
    for rows, columns in ((2, 3), (1, 2)):
        sizes = [(shape[rows], shape[columns]) for shape in shapes]
        if len(set(sizes)) > 1 and _one_aspect(sizes):
            positions = [height * width for height, width in sizes]
            # of several maps of one size the deepest is at the end where the small ones are
            ends = positions if positions[0] < positions[-1] else positions[::-1]
            number = ends.index(min(positions))
            return number if ends is positions else len(positions) - 1 - number
    return None


def _one_aspect(sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether the aspect ratios agree up to the rounding of each halving."""
    height, width = max(sizes)
    return all(abs(h * width - w * height) <= max(height, width) for h, w in sizes)


def _entries(value: Any) -> Sequence[tuple[str, Any]] | None:
    """The entries of a value, by key or position; None for a value that is not searched further."""
    if isinstance(value, Mapping):
        return [(str(key), entry) for key, entry in value.items()]
    if hasattr(value, "_asdict"):
        return list(value._asdict().items())
    if isinstance(value, list | tuple):
        return [(str(number), entry) for number, entry in enumerate(value)]
    if value is None or isinstance(value, nn.Module | type) or not hasattr(value, "__dict__"):
        return None
    return [(str(key), entry) for key, entry in vars(value).items()]


def _walk(value: Any, path: str, depth: int, above: set[int]) -> Iterator[_Part]:
    if isinstance(value, Tensor):
        yield path, value
        return
    entries = None if depth == 0 or id(value) in above else _entries(value)
    for key, entry in entries or ():
        yield from _walk(entry, f"{path}.{key}" if path else key, depth - 1, above | {id(value)})


def _main(value: Any, path: str, depth: int, above: set[int]) -> _Part | None:
    if isinstance(value, Tensor):
        return path, value
    entries = None if depth == 0 or id(value) in above else _entries(value)
    if entries is None:
        return None
    named = not isinstance(value, list | tuple) or hasattr(value, "_asdict")
    known = dict(entries) if named else {}
    inside = [(f"{path}.{key}" if path else key, entry) for key, entry in entries]
    for key in (key for key in KEYS if key in known):
        entry, where = known[key], f"{path}.{key}" if path else key
        if key in _BY_DEPTH and isinstance(entry, tuple):
            entry = list(entry)
        if (tensor := _main(entry, where, depth - 1, above | {id(value)})) is not None and _real(tensor):
            return tensor
    tensors = [_main(entry, where, depth - 1, above | {id(value)}) for where, entry in inside]
    usable = [tensor for tensor in tensors if tensor is not None]
    usable = [tensor for tensor in usable if _real(tensor)] or usable
    if not usable:
        return None
    deepest = coarsest([tuple(tensor.shape) for _, tensor in usable])
    return usable[deepest if deepest is not None else -1 if isinstance(value, list) else 0]


def _real(entry: _Part) -> bool:
    return entry[1].is_floating_point()
