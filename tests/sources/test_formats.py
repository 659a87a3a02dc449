"""Files of other programs get a sentence that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelspace.errors import ModelspaceError
from modelspace.sources import load
from modelspace.sources.formats import other_format

TFJS = b'{"format":"layers-model","generatedBy":"keras","modelTopology":{"keras_version":"2.4"}}'


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TFJS, "a TensorFlow.js model"),
        (b'{"weightsManifest": [], "format": "graph-model"}', "a TensorFlow.js model"),
        (b"\x1c\x00\x00\x00TFL3\x14", "a TensorFlow Lite model"),
        (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it"),
        (b"GGUF\x03", "a GGUF file"),
        (b"\x93NUMPY\x01", "a single NumPy array"),
    ],
)
@pytest.mark.parametrize("scheme", ["onnx", "file"])
def test_the_program_is_named(content: bytes, name: str, scheme: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ModelspaceError, match=f"model.bin is {name}, not") as caught:
        load(f"{scheme}:{tmp_path / 'model.bin'}")
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b'{"a": 1}', b"TFL3", b"\x08\x07\x12"])
def test_anything_else_is_none(content: bytes) -> None:
    assert other_format(content) is None
