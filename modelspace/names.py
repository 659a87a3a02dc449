"""User-given names: which are allowed, and which existing name was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from modelspace.errors import UsageError

MAX_LENGTH = 128

_ALLOWED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_name(name: str, what: str = "model") -> str:
    """Return the name if it is valid.

    A name has 1 to 128 characters: letters a-z and A-Z, digits, dot, underscore and hyphen. It does not start with a
    hyphen or a dot, so it can't be mistaken for an option, a hidden file or a folder; it contains no ':' or '/', so it
    can't be mistaken for a model's address.

    Args:
        name: the name to check.
        what: the kind of thing that is named, for the error message.

    Raises:
        UsageError: the name is not valid; the hint suggests one that is.

    >>> check_name("resnet18-v1.5")
    'resnet18-v1.5'
    """
    if isinstance(name, str) and len(name) <= MAX_LENGTH and _ALLOWED.fullmatch(name):
        return name
    rule = f"a name has up to {MAX_LENGTH} letters, digits, '.', '_' or '-', and starts with neither '.' nor '-'"
    suggestion = to_name(name) if isinstance(name, str) else ""
    raise UsageError(
        f"{name!r} can't be the name of a {what}", f"{rule}; for example {suggestion}" if suggestion else rule
    )


def to_name(text: str) -> str:
    """A similar text that `check_name` accepts, or "" if there is none.

    >>> to_name("timm/vit_base.augreg in21k")
    'timm-vit_base.augreg-in21k'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:MAX_LENGTH].rstrip(".-")


def near_matches(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of `names` that look like `name`, most similar first, ignoring case.

    >>> near_matches("dept", ["normals", "depth", "edges"])
    ['depth']
    >>> near_matches("ResNet", ["resnet18", "vgg"])
    ['resnet18']
    """
    lower = name.lower()
    candidates = sorted(set(names))
    by_lower: dict[str, list[str]] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), []).append(candidate)
    matches = [c for match in difflib.get_close_matches(lower, by_lower, n, 0.6) for c in by_lower[match]]
    if len(lower) >= 3:
        matches += [
            c for c in candidates if c not in matches and (lower in c.lower() or (len(c) >= 3 and c.lower() in lower))
        ]
    return matches[:n]


def did_you_mean(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """A hint with the near matches, or `otherwise` if there are none.

    >>> did_you_mean("dept", ["normals", "depth"])
    'did you mean depth?'
    """
    near = near_matches(name, names)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
