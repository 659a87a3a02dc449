"""Checksums of rows: CRC-32 of what a row holds and of whose it is.

DuckDB's own checksums notice a damaged block of the file. These notice a row that was changed by another program, or
that belongs to another model, space or registry. They guard against accidents, not against an attacker, who can
compute them too.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_OWNER = struct.Struct("<qqd")


def of_vector(space_id: str, model_id: int, vector: np.ndarray, axis: int | None, residual: float) -> int:
    """Of a model's coordinates in a space.

    Args:
        space_id: the space.
        model_id: the model.
        vector: (d,) float64.
        axis: the axis that the model opened, or None.
        residual: how much of the model the earlier axes leave unexplained.
    """
    owner = _OWNER.pack(model_id, -1 if axis is None else axis, residual)
    return zlib.crc32(_bytes(vector), zlib.crc32(owner, zlib.crc32(space_id.encode())))


def of_affinities(space_id: str, model_id: int, position: int, affinities: np.ndarray) -> int:
    """Of a model's affinities, (m,) float64, to the models before it in a space."""
    owner = _OWNER.pack(model_id, position, len(affinities))
    return zlib.crc32(_bytes(affinities), zlib.crc32(owner, zlib.crc32(space_id.encode())))


def of_coordinates(space_id: str, model_id: int, coordinates: np.ndarray) -> int:
    """Of a model's coordinates on the anchors of a space, (d,) float32."""
    owner = _OWNER.pack(model_id, len(coordinates), 0.0)
    start = zlib.crc32(owner, zlib.crc32(space_id.encode()))
    return zlib.crc32(np.ascontiguousarray(coordinates, dtype="<f4").tobytes(), start)


def of_all_coordinates(space_id: str, model_ids: Sequence[int], matrix: np.ndarray) -> list[int]:
    """`of_coordinates` of many models: (n, d) float32, in the order of the ids."""
    start, width = zlib.crc32(space_id.encode()), matrix.shape[1]
    rows = np.ascontiguousarray(matrix, dtype="<f4")
    crc, pack = zlib.crc32, _OWNER.pack
    return [crc(row, crc(pack(i, width, 0.0), start)) for i, row in zip(model_ids, rows, strict=True)]


def of_anchor(space_id: str, axis: int, model_id: int, factor: np.ndarray) -> int:
    """Of an anchor of a space: its model, and its row of the anchors' factor, (axis + 1,) float64."""
    owner = _OWNER.pack(model_id, axis, len(factor))
    return zlib.crc32(_bytes(factor), zlib.crc32(owner, zlib.crc32(space_id.encode())))


def of_anchor_owner(space_id: str, axis: int, first_image: int, n_images: int) -> int:
    """As `of_owner`, of the blocks of an anchor."""
    return zlib.crc32(f"{space_id} anchor {axis} {first_image} {n_images}".encode())


def of_owner(space_id: str, model_id: int, first_image: int, n_images: int) -> int:
    """Of what the parts of a block have in common; `of_part` goes on from it."""
    return zlib.crc32(f"{space_id} {model_id} {first_image} {n_images}".encode())


def of_part(owner: int, part: int, codes: bytes, scales: bytes) -> int:
    """Of one part of a block of maps, whose owner is `of_owner`."""
    return zlib.crc32(scales, zlib.crc32(codes, zlib.crc32(b"%d %d" % (part, len(codes)), owner)))


def of_outcome(values: Sequence[Any]) -> int:
    """Of an outcome: its task, weights, score, way of measuring, settings, images, seed, seconds, time and note."""
    return zlib.crc32(json.dumps([value if _is_plain(value) else str(value) for value in values]).encode())


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _bytes(numbers: np.ndarray) -> bytes:
    return np.ascontiguousarray(numbers, dtype="<f8").tobytes()
