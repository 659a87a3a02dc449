"""The token of a server: read from a file that is private, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from modelspace.errors import NotFoundError, UsageError
from modelspace.files import read_regular

#: Shortest and longest token, in characters.
LEAST, MOST = 16, 4096

_MAKE_ONE = "make one, for example: (umask 077; openssl rand -hex 32 > token)"


def read_token(path: Path) -> str:
    """The token in a file: its only line.

    Raises:
        NotFoundError: there is no such file.
        UsageError: others can read it, or it holds no token.
    """
    try:
        status = path.stat()
        data = read_regular(path)
    except FileNotFoundError:
        raise NotFoundError(f"there is no token file {path}", _MAKE_ONE) from None
    except OSError as error:
        raise UsageError(f"the token file {path} can't be read: {error.strerror}", _MAKE_ONE) from None
    if os.name == "posix" and (
        status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (0, os.geteuid())
    ):
        raise UsageError(f"others can read the token file {path}, or own it", f"chmod 600 {path}")
    text = data.decode("ascii", "replace").strip()
    if not LEAST <= len(text) <= MOST or not all("!" <= char <= "~" for char in text):
        raise UsageError(f"{path} holds no token: one is a line of {LEAST} to {MOST} visible characters", _MAKE_ONE)
    return text


def is_authorised(header: str | None, token: str) -> bool:
    """Whether an Authorization header carries the token.

    >>> is_authorised("Bearer 0123456789abcdef", "0123456789abcdef"), is_authorised(None, "0123456789abcdef")
    (True, False)
    """
    scheme, _, given = (header or "").partition(" ")
    # Hashes are of one length, so that the time tells nothing of the token's.
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given.strip(), token)]
    return hmac.compare_digest(*digests) and scheme.lower() == "bearer"
