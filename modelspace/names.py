"""User-given names: which are allowed, how stored texts become names of files, and which name was probably meant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from modelspace.errors import DamagedError, UsageError

MAX_LENGTH = 128

#: Length of the longest file name in bytes, suffix included: file systems allow 255, and temporary names are longer.
MAX_FILE_NAME = 200

_ALLOWED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

#: Names that are read as they are stored: letters and digits of any script, '.', '_', '-', and single spaces inside.
_PLAIN = re.compile(r"\w[\w.-]*(?: [\w.-]+)*")

#: Files that Windows takes for devices, whatever their suffix.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:\..*)?", re.IGNORECASE | re.DOTALL)


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


def readable_name(text: str) -> str:
    """A stored name as it is shown and used: a name that this program can't have written is percent-escaped.

    A registry file is somebody's data until proven otherwise, and a name in it may be any text. Names of letters and
    digits (of any script), '.', '_', '-' and single inner spaces stay as they are, up to 128 characters. In all others,
    every other character is escaped, and a long one is cut, with a hash of the whole. So no name has a separator of
    paths, a control character, a quote or markup; different texts have different names; and a valid name stays itself.

    Raises:
        DamagedError: it is NULL, which a damaged file or another program can put in its place.

    >>> readable_name("resnet18-v1.5"), readable_name("../../etc"), readable_name("a%2Fb")
    ('resnet18-v1.5', '%2E.%2F..%2Fetc', 'a%252Fb')
    >>> readable_name("x" * 1000)[100:]
    'xxxxxxxxxxx~44f8354494a5ba03'
    """
    if not isinstance(text, str):
        raise DamagedError("a name in the registry is missing", "restore a copy of it, or correct the row in SQL")
    if len(text) <= MAX_LENGTH and _PLAIN.fullmatch(text):
        return text
    return _cut(_escaped(text, r"[^\w. -]|^[. -]|  +| $") or "%", text, MAX_LENGTH)


def printable(text: str, keep: str = "") -> str:
    """Escape control and invisible characters, so that a text can't move the cursor or hide anything.

    Args:
        text: untrusted text, for example a tag.
        keep: characters that are not escaped.

    >>> printable("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape", "replace").decode() for c in text)


def file_name(text: str, suffix: str = "") -> str:
    """A file name for a text, in one folder and on any file system: the text itself if it is harmless.

    Every character but ASCII letters, digits, '.', '_' and '-' is percent-escaped, and so are a first '.' or '-' and
    names that Windows takes for devices. A long name is cut, with a hash of the whole text. Names of different texts
    differ, but a file system that ignores case may take some for one.

    Args:
        text: for example a model's name.
        suffix: of the file; not escaped.

    >>> file_name("curvature", ".npy"), file_name("../../etc/passwd", ".npy")
    ('curvature.npy', '%2E.%2F..%2Fetc%2Fpasswd.npy')
    >>> file_name(".."), file_name(""), file_name("nul.txt")
    ('%2E%2E', '%', '%6Eul.txt')
    """
    escaped = _escaped(text, r"[^A-Za-z0-9._-]|^[.-]|\.$")
    if _DEVICES.fullmatch(escaped):
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return _cut(escaped or "%", text, MAX_FILE_NAME - len(suffix.encode())) + suffix


def _escaped(text: str, pattern: str) -> str:
    """The text with what matches the pattern, and lone surrogates, percent-escaped as in URIs (UTF-8)."""
    return re.sub(pattern, lambda match: "".join(f"%{b:02X}" for b in match[0].encode("utf-8", "surrogatepass")), text)


def _cut(escaped: str, text: str, length: int) -> str:
    """The escaped text, or its beginning and a hash of the text if it is longer than `length`."""
    if len(escaped) <= length:
        return escaped
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{escaped[: length - 17]}~{digest}"


def near_matches(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of `names` that look like `name`, most similar first, ignoring case.

    >>> near_matches("dept", ["normals", "depth", "edges"])
    ['depth']
    >>> near_matches("ResNet", ["resnet18", "vgg"])
    ['resnet18']
    """
    import difflib  # slow to import, and needed only for typos

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
