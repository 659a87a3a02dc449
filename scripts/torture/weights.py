"""Weights files that attack: pickles with code, zip and header bombs, tensors that overlap or claim absent data.

    python scripts/torture/weights.py [--count 200 | --full] [--seed 0] [--out weights.json]

Each is given to `modelspace.sources.weights.load_weights` under each suffix, and to the addresses that load a file. No
code may run (a canary is not created), memory and time are bounded, and the error is one sentence.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.hostile import CANARY, Input, main

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".npy", ".safetensors", ".h5", "")

State = dict[str, Any]


def module() -> Any:
    """The network that the files claim to be for."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@functools.cache
def sound() -> dict[str, bytes]:
    """A sound file of each format for `module`."""
    import numpy as np
    import torch
    from safetensors.torch import save

    state = module().state_dict()
    files = {"safetensors": save(state)}
    for name, zipped in (("zip", True), ("legacy", False)):
        stream = io.BytesIO()
        torch.save(state, stream, _use_new_zipfile_serialization=zipped)
        files[name] = stream.getvalue()
    stream = io.BytesIO()
    np.savez(stream, **{key: value.numpy() for key, value in state.items()})
    files["npz"] = stream.getvalue()
    return files


def load(path: Path) -> None:
    from modelspace.sources.weights import load_weights

    load_weights(module(), str(path))


def given(content: bytes | Callable[[Path], bytes], suffix: str = ".pt") -> Callable[[Path], None]:
    """Writes the content into a file and loads it as weights."""

    def attempt(folder: Path) -> None:
        path = folder / f"w{suffix}"
        path.write_bytes(content(folder) if callable(content) else content)
        load(path)

    return attempt


def addressed(content: Callable[[Path], bytes], address: str, suffix: str) -> Callable[[Path], None]:
    """Writes the content into a file and loads it by an address."""

    def attempt(folder: Path) -> None:
        from modelspace import sources

        path = folder / f"w{suffix}"
        path.write_bytes(content(folder))
        weights = None if "{}" in address else str(path)
        sources.load(address.format(path), **({"weights": weights} if weights else {}))

    return attempt


# --- code


class _Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _canary(folder: Path) -> str:
    return str(folder.parent / CANARY)


def _calls(folder: Path) -> dict[str, bytes]:
    """Pickles that create the canary when they are loaded without care."""
    import torch

    target = _canary(folder)
    word = b"X" + struct.pack("<I", len(target.encode())) + target.encode()
    text = f"__import__('os').mkdir({target!r})"
    inner = pickle.dumps(_Call(os.mkdir, target))
    raw = target.encode()
    return {
        "mkdir": pickle.dumps({"w": _Call(os.mkdir, target)}),
        "system": pickle.dumps(_Call(os.system, f"mkdir {target}")),
        "eval": pickle.dumps(_Call(eval, text)),
        "exec": pickle.dumps(_Call(exec, text)),
        "nested storage": pickle.dumps(_Call(torch.storage._load_from_bytes, inner)),  # noqa: SLF001
        "nested pickle": pickle.dumps(_Call(pickle.loads, inner)),
        "getattr": b"c__builtin__\ngetattr\n(cposix\nstat\nS'__self__'\ntR.",
        "protocol 0": b"cos\nmkdir\n(S'" + raw + b"'\ntR.",
        "INST": b"(S'" + raw + b"'\nios\nmkdir\n.",
        "OBJ": b"\x80\x02(cos\nmkdir\n" + word + b"o.",
        "NEWOBJ": b"\x80\x02cos\nmkdir\n" + word + b"\x85\x81.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + word + b"\x85R.",
        "dotted name": b"\x80\x04\x8c\x05torch\x8c\x0eos.path.exists\x93X"
        + struct.pack("<I", len(raw))
        + raw
        + b"\x85R.",
        "torch's own os": b"\x80\x02ctorch\nos.mkdir\n" + word + b"\x85R.",
        "BUILD": b"\x80\x02ccollections\nOrderedDict\n)R}X\x0a\x00\x00\x00__setstate" + b"cos\nmkdir\nsb.",
        "persistent id": b"\x80\x02" + word + b"Q.",
    }


def _zipped(data: bytes, extra: dict[str, bytes] | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for name, content in (extra or {}).items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _legacy(data: bytes) -> bytes:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    return magic + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2) + data


def _object_array(folder: Path) -> bytes:
    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, **{"0.weight": np.array([_Call(os.mkdir, _canary(folder))], dtype=object)})
    return stream.getvalue()


def _program(folder: Path, name: str) -> bytes:
    """What torch.jit.save writes, with the call of a pickle among its constants or its data."""
    return _zipped(_calls(folder)["mkdir"], {"constants.pkl": _calls(folder)["mkdir"], f"code/{name}.py": b"x = 1"})


def _exported(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("models/model.json", "data/weights/model_weights_config.json"):
            archive.writestr(f"archive/{name}", "{}")
        archive.writestr("archive/archive_format", "pt2")
        archive.writestr("archive/data/sample_inputs/model.pt", _zipped(_calls(folder)["mkdir"]))
    return stream.getvalue()


def code_inputs() -> Iterator[Input]:
    """Code through every path that loads a file."""
    wrappings: dict[str, Callable[[bytes], bytes]] = {
        "bare": lambda data: data,
        "legacy": _legacy,
        "zip": _zipped,
        "zip in a version entry": lambda data: _zipped(pickle.dumps({}, 2), {"version": data, ".data/version": data}),
    }
    for call in _calls(Path("folder")):
        for wrapping, wrap in wrappings.items():

            def content(folder: Path, call: str = call, wrap: Callable[[bytes], bytes] = wrap) -> bytes:
                return wrap(_calls(folder)[call])

            for suffix in SUFFIXES if call == "mkdir" else (".pt",):
                yield Input("code", f"{call}, {wrapping}, {suffix or 'no suffix'}", given(content, suffix))

    def mkdir(folder: Path) -> bytes:
        return _zipped(_calls(folder)["mkdir"])

    for address in ("file:{}", "onnx:{}", "taskonomy:normal"):
        for suffix in (".pt", ".pt2", ".onnx", ".pth"):
            for name, content in (
                ("state dict", mkdir),
                ("TorchScript", functools.partial(_program, name="x")),
                ("program", _exported),
            ):
                yield Input("code", f"{name} by {address}, {suffix}", addressed(content, address, suffix))
    for suffix in SUFFIXES:
        yield Input("code", f"objects in an npz, {suffix or 'no suffix'}", given(_object_array, suffix))
        yield Input("code", f"TorchScript, {suffix or 'no suffix'}", given(lambda f: _program(f, "x"), suffix))
        yield Input("code", f"exported program, {suffix or 'no suffix'}", given(_exported, suffix))


# --- bombs


def _tensor(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, elements: int = 4, kind: str = "FloatStorage"
) -> bytes:
    """The pickle of a state dict with one tensor that claims this storage and this place in it."""

    def number(value: int) -> bytes:
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data

    def word(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + word("storage") + b"ctorch\n" + kind.encode() + b"\n" + word("0") + word("cpu") + number(elements)
    rebuilt = b"(" + storage + b"tQ" + number(offset) + numbers(size) + numbers(stride) + b"\x89ccollections\n"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"OrderedDict\n)RtR"
    return b"\x80\x02}" + word("2.bias") + tensor + b"s."


def _laughs(width: int, depth: int, kind: str) -> bytes:
    """Containers of the same container, `width` times at each of `depth` levels: few bytes, many paths."""
    inner: Any = "ha"
    for _ in range(depth):
        inner = {str(i): inner for i in range(width)} if kind == "dict" else [inner] * width
    return pickle.dumps({"state_dict": inner, "model": inner}, 2)


def _deep(kind: str, depth: int) -> bytes:
    opening, closing = {"list": (b"]", b"a"), "tuple": (b"", b"\x85"), "dict": (b"}X\x01\x00\x00\x00a", b"s")}[kind]
    return b"\x80\x02" + opening * depth + (b"N" if kind != "list" else b"]") + closing * depth + b"."


def _packed(entries: dict[str, int], level: int = 9) -> bytes:
    """A zip archive of compressed zeros: name -> MB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, size in entries.items():
            with archive.open(name, "w", force_zip64=True) as out:
                for _ in range(size):
                    out.write(bytes(1 << 20))
    return stream.getvalue()


def _overlapping(copies: int, size: int, name: str, data: bytes | None = None) -> bytes:
    """A zip archive whose directory names the same stored bytes many times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        if data is not None:
            archive.writestr("archive/data.pkl", data)
        archive.writestr(name.format(0), _npy((size,), size) if name.endswith(".npy") else bytes(size))
        entry = archive.infolist()[-1]
        for copy in range(1, copies):
            double = zipfile.ZipInfo(name.format(copy))
            for key in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(double, key, getattr(entry, key))
            archive.filelist.append(double)
            archive.NameToInfo[double.filename] = double
        archive._didModify = True  # noqa: SLF001
    return stream.getvalue()


def _npy(
    shape: tuple[int, ...] | str, data: int, kind: str = "<f4", version: int = 1, length: int | None = None
) -> bytes:
    """An array of NumPy with a claimed shape and type, and `data` bytes."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    size = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + header + bytes(data)


def _npz(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def pickle_bombs() -> Iterator[Input]:
    """Pickles and archives that are small and claim to be large."""
    for width, depth in ((10, 8), (100, 8), (1000, 5), (2, 40)):
        for kind in ("dict", "list"):
            data = _laughs(width, depth, kind)
            for wrapping, wrap in (("zip", _zipped), ("legacy", _legacy)):
                yield Input("bomb", f"laughs {width}^{depth} of {kind}, {wrapping}", given(wrap(data)))
    for kind in ("list", "tuple", "dict"):
        for depth in (1000, 200_000):
            yield Input("bomb", f"{depth} levels of {kind}", given(_zipped(_deep(kind, depth))), "refuse")
    for name, claim in {
        "BINBYTES8": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),
        "BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40),
        "BINUNICODE": b"\x80\x02X" + struct.pack("<I", (1 << 32) - 1),
        "FRAME": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50),
        "LONG4": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1),
        "LONG_BINPUT": b"\x80\x02Nr" + struct.pack("<I", (1 << 32) - 1) + b".",
        "MEMO": b"\x80\x04N\x94" * 200_000 + b".",
    }.items():
        yield Input("bomb", f"opcode {name}", given(_zipped(claim)))
    for size, stride, offset, elements in (
        ((1 << 40,), (1,), 0, 4),
        ((1 << 40,), (0,), 0, 4),
        ((1 << 31, 1 << 31), (0, 0), 0, 4),
        ((1 << 62, 1 << 62), (1, 1), 0, 4),
        ((2,), (1,), 1 << 40, 4),
        ((2,), (1,), -2, 4),
        ((2,), (-1,), 1, 4),
        ((-2,), (1,), 0, 4),
        ((2,), (1 << 60,), 0, 4),
        ((2,), (1,), 0, 1 << 40),
        ((2,), (1,), 0, (1 << 62) - 1),
        ((2,), (1,), 0, -4),
        ((2,), (1, 1), 0, 4),
        ((2,) * 100, (0,) * 100, 0, 4),
        ((), (), 0, 4),
    ):
        name = f"tensor of {size} by {stride} at {offset} of {elements}"
        name = name if len(name) < 100 else f"tensor of {len(size)} axes"
        data = _tensor(size, stride, offset, elements)
        yield Input("bomb", f"{name}, zip", given(_zipped(data, {"data/0": bytes(16)})))
    for kind in ("BogusStorage", "load", "nn.Linear", "UntypedStorage", "QInt8Storage", "ComplexDoubleStorage"):
        data = _zipped(_tensor((2,), (1,), 0, 4, kind), {"data/0": bytes(16)})
        yield Input("bomb", f"storage {kind}", given(data))


def zip_bombs() -> Iterator[Input]:
    """Archives whose entries are larger than the file, or lie over each other."""
    yield Input("bomb", "a compressed pickle of 1 GB", given(lambda _: _packed({"archive/data.pkl": 1024})))
    yield Input(
        "bomb", "compressed data of 1 GB", given(lambda _: _packed({"archive/data.pkl": 0, "archive/data/0": 1024}))
    )
    yield Input("bomb", "a compressed array of 1 GB", given(lambda _: _packed({"0.weight.npy": 1024}), ".npz"))
    yield Input("bomb", "100,000 entries", given(lambda _: _overlapping(100_000, 0, "archive/data/{}", b"\x80\x02}.")))
    yield Input("bomb", "2,000 overlapping arrays", given(lambda _: _overlapping(2000, 4 << 20, "a{}.npy"), ".npz"))
    overlapping = _overlapping(2000, 1 << 20, "archive/data/{}", _tensor((1 << 18,), (1,), 0, 1 << 18))
    yield Input("bomb", "2,000 overlapping storages", given(overlapping))
    for shape in (
        (1 << 40,),
        (1 << 31, 1 << 31),
        (-1,),
        (-2, -2),
        (0, 1 << 62),
        (1 << 70,),
        (2.5,),
        "(" * 3000,
        "2 ** 99",
    ):
        name = str(shape) if len(str(shape)) < 50 else "of 3,000 brackets"
        data = _npz(**{"2.bias": _npy(shape, 16)})  # type: ignore[arg-type]
        yield Input("bomb", f"array {name}", given(data, ".npz"))
    for kind in ("|O", "<U1000000000", "|V1000000000", "<M8[ns]", "bogus", "<f16", "<c16", "(1000000,1000000)<f4"):
        yield Input("bomb", f"array of {kind}", given(_npz(**{"2.bias": _npy((2,), 16, kind)}), ".npz"))
    for version in (0, 2, 3, 9):
        data = _npy((2,), 8, version=version) if version != 2 else _npy((2,), 8, version=2, length=(1 << 32) - 1)
        yield Input("bomb", f"array of version {version}", given(_npz(**{"2.bias": data}), ".npz"))


def _safetensors(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(shape: list[Any], begin: Any, end: Any, kind: Any = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def safetensors_bombs() -> Iterator[Input]:
    """Headers that claim too much, or nonsense."""
    bias = _entry([2], 0, 8)
    for length in (0, 1, 7, 100 << 20, (100 << 20) + 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        yield Input(
            "header", f"of {length} bytes", given(_safetensors({"2.bias": bias}, bytes(8), length), ".safetensors")
        )
    headers: dict[str, bytes | dict[str, Any]] = {
        "overlapping tensors": {"2.bias": bias, "1.bias": _entry([2], 4, 12)},
        "the same bytes twice": {"2.bias": bias, "1.bias": bias},
        "a hole": {"2.bias": bias, "1.bias": _entry([1], 12, 16)},
        "outside": {"2.bias": _entry([2], 1 << 40, (1 << 40) + 8)},
        "backwards": {"2.bias": _entry([2], 8, 0)},
        "negative offset": {"2.bias": _entry([2], -8, 0)},
        "no numbers": {"2.bias": _entry([2], "0", "8")},
        "fractions": {"2.bias": _entry([2], 0.0, 8.0)},
        "negative shape": {"2.bias": _entry([-2], 0, 8)},
        "two negative sides": {"2.bias": _entry([-1, -2], 0, 8)},
        "overflow": {"2.bias": _entry([1 << 33, 1 << 33], 0, 8)},
        "overflow to the right size": {"2.bias": _entry([1 << 62, 4, 2], 0, 0)},
        "huge sides of nothing": {"2.bias": _entry([0, (1 << 62)], 0, 0)},
        "1,000 axes": {"2.bias": _entry([1] * 1000, 0, 4)},
        "unknown type": {"2.bias": _entry([2], 0, 8, "F33")},
        "type of 4 bits": {"2.bias": _entry([2], 0, 1, "F4")},
        "lower case": {"2.bias": _entry([2], 0, 8, "f32")},
        "no type": {"2.bias": _entry([2], 0, 8, None)},
        "metadata of numbers": {"__metadata__": {"a": 1}, "2.bias": bias},
        "metadata as a tensor": {"__metadata__": bias},
        "no name": {"": bias},
        "NUL in a name": {"2.bias\x00": bias},
        "a name of 1 MB": {"a" * (1 << 20): bias},
        "100,000 empty tensors": {f"t{i}": _entry([0], 0, 0) for i in range(100_000)},
        "a list": b"[]" + b" " * 30,
        "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "deep lists": b'{"2.bias":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "twice the same name": b'{"2.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"2.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        "not text": b'{"\xff\xfe":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        "huge number": b'{"2.bias":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,8]}}',
        "an empty object": b"{}" + b" " * 30,
    }
    for name, header in headers.items():
        for suffix in (".safetensors", ".pt"):
            yield Input("header", f"{name}, {suffix}", given(_safetensors(header, bytes(16)), suffix))


def index_bombs() -> Iterator[Input]:
    """Indexes of parts that lead elsewhere."""

    def indexed(content: bytes, link: bool = False) -> Callable[[Path], None]:
        def attempt(folder: Path) -> None:
            (folder / "model.safetensors.index.json").write_bytes(content)
            if link:
                (folder / "a.safetensors").symlink_to("/dev/zero")
            load(folder)

        return attempt

    for part in (
        "../a.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "model.safetensors.index.json",
        "a\x00b",
        "\\\\a\\b",
    ):
        content = json.dumps({"weight_map": {"2.bias": part}}).encode()
        yield Input("index", f"part {part!r}", indexed(content))
    yield Input("index", "a link to a device", indexed(b'{"weight_map": {"2.bias": "a.safetensors"}}', link=True))
    for name, content in {
        "deep": b'{"weight_map": ' + b"[" * 200_000,
        "a number": b'{"weight_map": 3}',
        "a list": b"[]",
        "numbers": b'{"weight_map": {"a": 3}}',
        "not text": b'{"weight_map": "\xff"}',
        "70 MB": b'{"weight_map": {' + b" " * (70 << 20) + b"}}",
        "huge number": b'{"weight_map": ' + b"9" * 100_000 + b"}",
    }.items():
        yield Input("index", name, indexed(content))


# --- damage


def truncated_inputs(step: int) -> Iterator[Input]:
    """Each format, cut at every `step`-th byte."""
    for name, content in sound().items():
        for length in range(0, len(content) - 1, step):
            yield Input("truncated", f"{name} after {length} bytes", given(content[:length]), "refuse")


def renamed_inputs() -> Iterator[Input]:
    """Sound files under wrong suffixes: the content counts."""
    for name, content in sound().items():
        for suffix in SUFFIXES:
            yield Input("wrong suffix", f"{name} as {suffix or 'no suffix'}", given(content, suffix), "load")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A copy with a few changes: bytes, numbers, pieces cut out, doubled or moved."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(max(1, len(data)))
        match draw.randrange(6):
            case 0:
                data[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                data[place : place + 1] = bytes([(data[place] if data else 0) ^ (1 << draw.randrange(8))])
            case 2:
                data[place : place + 8] = struct.pack("<Q", draw.choice((0, 1, 255, 1 << 31, 1 << 40, (1 << 64) - 1)))
            case 3:
                del data[place : place + draw.randint(1, 64)]
            case 4:
                data[place:place] = data[place : place + draw.randint(1, 64)]
            case 5:
                other = draw.randrange(max(1, len(data)))
                data[place : place + 16] = data[other : other + 16]
    return bytes(data)


def mutated_inputs(count: int, seed: int) -> Iterator[Input]:
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        name = draw.choice(sorted(sound()))
        yield Input("mutated", f"{name} {number}", given(mutated(sound()[name], draw)), "either")


def inputs(count: int, seed: int) -> list[Input]:
    """All inputs; `count` random mutations."""
    step = 64 if count > 1000 else 512
    listed = [*code_inputs(), *pickle_bombs(), *zip_bombs(), *safetensors_bombs(), *index_bombs()]
    return [*listed, *renamed_inputs(), *truncated_inputs(step), *mutated_inputs(count, seed)]


if __name__ == "__main__":
    main(__file__, "weights files", inputs, short=200, full=20_000)
