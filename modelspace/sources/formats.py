"""Formats of other programs, identified by their first bytes: what a file is that can't be loaded, and what to do."""

from __future__ import annotations

import re

#: How many bytes are looked at.
_FIRST = 4096

#: (pattern at the beginning of the file, what it is, what to do).
_FORMATS = (
    (rb"\x89HDF", "an HDF5 file, as Keras writes it", "convert the model to ONNX, for example with tf2onnx"),
    (rb"....TFL3", "a TensorFlow Lite model", "convert it to ONNX, for example with tf2onnx"),
    (
        rb'\s*\{.*"(modelTopology|weightsManifest|format": *"(layers|graph)-model)"',
        "a TensorFlow.js model",
        "convert it to ONNX, for example with tf2onnx",
    ),
    (rb"\x93NUMPY", "a single NumPy array", "save the model, or its state dict, not one array"),
    (rb"GGUF", "a GGUF file", "it holds a language model; modelspace compares models of images"),
)


def other_format(content: bytes) -> tuple[str, str] | None:
    """What a file of another program is, and what to do; None for anything else.

    >>> other_format(b'{"format":"layers-model","modelTopology":{}}')[0]
    'a TensorFlow.js model'
    >>> other_format(b"PK") is None
    True
    """
    for pattern, name, hint in _FORMATS:
        if re.match(pattern, content[:_FIRST], re.DOTALL):
            return name, hint
    return None
