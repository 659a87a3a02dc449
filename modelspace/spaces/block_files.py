"""A copy of a large space's blocks next to its index, in which a query finds those of a few models at once.

DuckDB reads a table by 2,048 rows at a time, so of the table `maps` it reads 7 MB to get at the 24 kB of one model's
kernel. A query of a space of many models needs thirty to a hundred models. `index/<space_id>.blocks` has the same
blocks by model id, one after another: a query reads from it what it needs and nothing else.

The file is used as the index is: as long as it is of this registry and the epoch of its space, which changes whenever
something changes of models that stay (the number of a model is never given again). Each block has a checksum. One that
does not match, or is missing, is read from the registry, so the file can be old, damaged or gone: answers are the same,
and only take longer. It is written when the index of a large space is built, for spaces that keep a model's rows in one
block (kernels, features by place), if the disk has room. Models that were added since are not in it.

Layout: `_HEADER`, the ids of the models (int64, ascending), and then for each model its codes, its scales and the
CRC-32 of its id, what the header says of a block, and both.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelspace import temporary
from modelspace.errors import ModelspaceError
from modelspace.files import open_regular
from modelspace.registry import MapBlock, Registry
from modelspace.spaces.derived_files import KeptFiles, State, current, has_nearly_all, path_of, state_of
from modelspace.spaces.kinds import Space, StoredSpace

#: Marks the file and its format: magic, registry, epoch, models, images of a block, bytes of its codes and its scales.
_HEADER = struct.Struct("<8s36sqqqqq")
_MAGIC = b"msblock1"
_CHECKSUM = struct.Struct("<I")

#: A file whose writing would leave less than this share of its size free on the disk is not written.
_SPARED = 0.25

#: Windows: a stream has one position for all threads.
_lock = threading.Lock()

_SUFFIX = ".blocks"


class _Sizes(NamedTuple):
    """Bytes of the codes and of the scales of a block."""

    codes: int
    scales: int


class BlockFile:
    """An open file.

    It is read, not mapped: a block from the disk is one request then, and a file that is cut short ends no process.

    Attributes:
        ids: (n,) int64, the models that it has, ascending.
        state: the registry and the epoch that it was written for.
    """

    def __init__(
        self, stream: BufferedReader, ids: NDArray[np.int64], state: State, n_images: int, sizes: _Sizes
    ) -> None:
        self._stream = stream
        self.ids = ids
        self.state = state
        self._n_images = n_images
        self._sizes = sizes

    @classmethod
    def open(cls, path: Path) -> BlockFile | None:
        """The file, unless it is missing or is no such file."""
        with suppress(OSError), ExitStack() as stack:
            stream = stack.enter_context(open_regular(path))
            magic, owner, epoch, *sizes = _HEADER.unpack(stream.read(_HEADER.size).ljust(_HEADER.size))
            count, n_images, n_codes, n_scales = sizes
            expected = _HEADER.size + count * (8 + n_codes + n_scales + _CHECKSUM.size)
            if magic == _MAGIC and min(sizes) > 0 and os.fstat(stream.fileno()).st_size == expected:
                ids = np.frombuffer(stream.read(8 * count), "<i8")
                file = cls(stream, ids, State(owner, epoch), n_images, _Sizes(n_codes, n_scales))
                stack.pop_all()
                return file
        return None

    def block(self, model_id: int) -> MapBlock | None:
        """The only block of a model; None if the file has none, or a damaged one."""
        at = int(np.searchsorted(self.ids, model_id))
        if at == len(self.ids) or self.ids[at] != model_id:
            return None
        data = self._read(at)
        end = self._sizes.codes + self._sizes.scales
        block = MapBlock(0, self._n_images, data[: self._sizes.codes], data[self._sizes.codes : end])
        return block if data[end:] == _checksum(model_id, block) else None

    def _read(self, at: int) -> bytes:
        """What the file has of the model at a position; less if it was cut, and nothing if it can't be read."""
        size = self._sizes.codes + self._sizes.scales + _CHECKSUM.size
        start = _HEADER.size + self.ids.nbytes + at * size
        with suppress(OSError):
            if hasattr(os, "pread"):
                return os.pread(self._stream.fileno(), size, start)
            with _lock:
                self._stream.seek(start)
                return self._stream.read(size)
        return b""


_kept = KeptFiles(BlockFile.open)


def attach(registry: Registry, space: Space) -> None:
    """Let a registry find blocks of a space in its file, if there is one."""
    if not isinstance(space, StoredSpace) or not _is_one_block(space):
        return
    space_id = space.spec.space_id
    file = current(_kept.get(path_of(registry, space_id, _SUFFIX)), registry, space_id)
    if file is None:
        registry.block_sources.pop(space_id, None)
    else:
        registry.block_sources[space_id] = file.block


def refresh(registry: Registry, space: Space, *, renew: bool = False) -> None:
    """Write the file of a space, unless it has nearly all models, is not wanted, or the disk lacks room.

    That it can't be written is no error.

    Args:
        registry: an open registry.
        space: any space; nothing is written for one whose models have more than one block each, or none.
        renew: write it in any case.
    """
    if not isinstance(space, StoredSpace) or not _is_one_block(space):
        return
    import shutil  # a query needs none of this

    path, spec = path_of(registry, space.spec.space_id, _SUFFIX), space.spec
    ids = np.sort(np.array(registry.model_ids(spec.space_id), np.int64))
    file = current(BlockFile.open(path), registry, spec.space_id)
    is_usable = file is not None and has_nearly_all(file.ids, ids)
    if not len(ids) or (is_usable and not renew):
        return
    size = len(ids) * (space.code_bytes(spec.n_images) + 8 * spec.n_images)
    with suppress(OSError, ModelspaceError):  # a damaged registry is reported by what asks it for models
        if shutil.disk_usage(path.parent).free < (1 + _SPARED) * size:
            return
        _write(path, ids, state_of(registry, spec.space_id), registry.map_blocks_at(spec.space_id, 0))


def check(registry: Registry, space: Space, *, deep: bool) -> tuple[int, list[int]] | None:
    """How many blocks the file of a space has, and the models whose blocks are damaged; None if it isn't used.

    Args:
        registry: an open registry.
        space: any space.
        deep: compare the blocks with those in the registry, not with their checksums alone.

    Raises:
        DamagedError: a block in the registry can't be read.
    """
    if not isinstance(space, StoredSpace) or not _is_one_block(space):
        return None
    space_id = space.spec.space_id
    file = current(BlockFile.open(path_of(registry, space_id, _SUFFIX)), registry, space_id)
    if file is None:
        return None
    damaged = [int(model_id) for model_id in file.ids if file.block(model_id) is None]
    for model_id, block in registry.map_blocks_at(space_id, 0) if deep else ():
        copied = file.block(model_id)
        if copied is not None and copied != block:
            damaged.append(model_id)
    return len(file.ids), sorted(damaged)


def _write(path: Path, ids: NDArray[np.int64], state: State, blocks: Iterator[tuple[int, MapBlock]]) -> None:
    """Write the blocks of all models, in the order of their ids.

    Raises:
        OSError: the file can't be written.
        ModelspaceError: the registry can't be read.
    """
    first = next(blocks, None)
    if first is None:
        return
    _, example = first
    sizes = (example.n_images, len(example.codes), len(example.scales))
    with temporary.replacing(path) as file, file.open("r+b") as out:
        out.write(_HEADER.pack(_MAGIC, *state, len(ids), *sizes))
        out.write(np.ascontiguousarray(ids, "<i8").tobytes())
        written = 0
        for model_id, block in chain([first], blocks):
            is_expected = written < len(ids) and model_id == ids[written]
            if not is_expected or (block.n_images, len(block.codes), len(block.scales)) != sizes:
                raise OSError(f"model {model_id} has no block like the others")
            out.write(block.codes + block.scales + _checksum(model_id, block))
            written += 1
        if written != len(ids):
            raise OSError("a model has no block")


def _checksum(model_id: int, block: MapBlock) -> bytes:
    owner = b"%d %d %d" % (model_id, block.n_images, len(block.codes))
    return _CHECKSUM.pack(zlib.crc32(block.scales, zlib.crc32(block.codes, zlib.crc32(owner))))


def _is_one_block(space: StoredSpace) -> bool:
    return space.images_per_block >= space.spec.n_images and not space.has_maps
