"""The token's file must be private and hold one token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelspace.errors import NotFoundError, UsageError
from modelspace.server.token import read_token

TOKEN = "0123456789abcdef"


def written(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_bytes(data)
    file.chmod(mode)
    return file


def test_the_line_of_a_private_file(tmp_path: Path) -> None:
    assert read_token(written(tmp_path, f" {TOKEN}\r\n".encode())) == TOKEN


@pytest.mark.skipif(os.name != "posix", reason="needs file permissions")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match="others can read") as raised:
        read_token(written(tmp_path, TOKEN.encode(), mode))
    assert raised.value.hint.startswith("chmod 600")


@pytest.mark.parametrize("data", [b"", b"short", TOKEN.encode() + b" x", b"x" * 5000, "é".encode() * 20, b"\0" * 20])
def test_what_is_no_token(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError, match="holds no token"):
        read_token(written(tmp_path, data))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no token file"):
        read_token(tmp_path / "none")
    tmp_path.chmod(0o700)
    with pytest.raises(UsageError, match="can't be read"):
        read_token(tmp_path)
