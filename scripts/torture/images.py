"""Images and folders that attack: bombs, damage, wrong suffixes, animations, odd modes, links, devices, odd names.

    python scripts/torture/images.py [--count 300 | --full] [--seed 0] [--out images.json]

Each image goes through both ways in: `modelspace.probes.folder`, as `modelspace probes` and `init --probes` use it,
and `modelspace.tasks.data.read` with `modelspace.tasks.pixels`, as `task add` and `try --images` do. Nothing waits or
ends the process, memory and time are bounded, and an error is one sentence that names the file.
"""

from __future__ import annotations

import functools
import io
import os
import random
import socket
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.hostile import Input, main
from torture.weights import mutated

Content = Callable[[], bytes]

WAYS = ("probes", "task")


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Any:
    """A picture with structure in every channel."""
    import numpy as np
    from PIL import Image

    width, height = size
    ramp = (np.arange(width)[None, :] * 5 + np.arange(height)[:, None] * 3) % 256
    rgb = np.stack([ramp, 255 - ramp, ramp * 7 % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@functools.cache
def sound(kind: str) -> bytes:
    return encoded(picture(), kind)


def _as_probes(folder: Path) -> None:
    from modelspace import probes

    probes.folder(folder, size=16)


def _as_task(folder: Path) -> None:
    from modelspace.tasks import data
    from modelspace.tasks.pixels import Pixels

    pixels = Pixels(data.read(folder))
    for number in range(len(pixels)):
        assert pixels[number].shape[2] == 3


def both(content: Content, suffix: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """The image among sound ones, by each way in."""

    def attempt(folder: Path, way: str) -> None:
        for number in range(4):
            place = folder / ("ab"[number % 2])
            place.mkdir(exist_ok=True)
            (place / f"{number}.png").write_bytes(encoded(picture(size=(8 + number, 8)), "PNG"))
        (folder / "a" / f"odd{suffix}").write_bytes(content())
        (_as_probes if way == "probes" else _as_task)(folder)

    for way in WAYS:
        yield way, functools.partial(attempt, way=way)


def listed(group: str, name: str, content: Content, suffix: str, must: str = "refuse") -> Iterator[Input]:
    for way, attempt in both(content, suffix):
        yield Input(group, f"{name}, as {way}", attempt, must)


# --- bombs


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 2, more: bytes = b"") -> bytes:
    """A PNG file by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = _chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + data + _chunk(b"IEND", b"")


def _zeros(width: int, height: int, samples: int) -> bytes:
    return png(width, height, bytes((1 + width * samples) * height), colour=2 if samples == 3 else 0)


def _scans(count: int) -> bytes:
    """A progressive JPEG of 4,000 x 4,000 pixels that repeats its last scan."""
    from PIL import Image

    data = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    starts = [place for place in range(len(data) - 1) if data[place : place + 2] == b"\xff\xda"]
    return data[: starts[-1]] + data[starts[-1] : -2] * count + b"\xff\xd9"


def _gif_frames(count: int, size: int) -> bytes:
    from PIL import Image

    frames = [Image.new("P", (size, size), number % 2) for number in range(2)] * (count // 2)
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], optimize=False)


def _tiff(width: int, height: int, tags: int = 0) -> bytes:
    """A TIFF header that claims a size, one strip of 4 bytes, and as many tags as are asked for."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height & 0xFFFFFFFF)]
    entries += [(50000 + number % 10_000, 1, (1 << 31) - 1, 8) for number in range(tags)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + struct.pack("<H", len(entries)) + body + bytes(4)


def _bmp(width: int, height: int, depth: int = 24, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + bytes(16)


def bomb_inputs() -> Iterator[Input]:
    """Few bytes that claim, or are, many pixels."""
    zeros = functools.partial(_zeros, 30_000, 30_000, 1)
    yield from listed("bomb", "30,000 x 30,000 PNG", zeros, ".png")
    yield from listed("bomb", "9,000 x 9,000 PNG", functools.partial(_zeros, 9000, 9000, 1), ".png")
    yield from listed("bomb", "7,900 x 7,900 PNG", functools.partial(_zeros, 7900, 7900, 3), ".png", "load")
    for width, height in ((1 << 31, 1), (1, 1 << 31), ((1 << 31) - 1, (1 << 31) - 1), (0, 5), (5, 0), (60_000, 60_000)):
        name = f"claims {width} x {height}"
        yield from listed("bomb", f"PNG {name}", functools.partial(png, width & 0xFFFFFFFF, height, b"\0"), ".png")
        side = (width & 0xFFFFFFFF, height & 0xFFFFFFFF)
        yield from listed("bomb", f"TIFF {name}", functools.partial(_tiff, *side), ".tif", "either")
        signed = (min(width, (1 << 31) - 1), min(height, (1 << 31) - 1))
        yield from listed("bomb", f"BMP {name}", functools.partial(_bmp, *signed), ".bmp", "either")
        yield from listed("bomb", f"BMP with runs {name}", functools.partial(_bmp, *signed, 8, 1), ".bmp", "either")
        text = f"P6 {width} {height} 255\n".encode()
        yield from listed("bomb", f"PPM {name}", lambda t=text: t, ".ppm", "either")
        gif = b"GIF89a" + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + b"\0\0\0,\0\0\0\0"
        gif += struct.pack("<HH", 65535, 65535) + b"\0\2\2D\1\0;"
        yield from listed("bomb", f"GIF {name}", lambda g=gif: g, ".gif", "either")
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        bomb = zlib.compress(bytes(200 << 20), 9)
        text = {b"zTXt": b"a\0\0" + bomb, b"iTXt": b"a\0\1\0\0\0" + bomb, b"iCCP": b"a\0\0" + bomb}[kind]
        more = _chunk(kind, text) * 8
        data = functools.partial(png, 8, 8, bytes(8 * 25), more=more)
        yield from listed("bomb", f"8 {kind.decode()} chunks of 200 MB", data, ".png", "either")
    long = png(8, 8, bytes(300 << 20))
    yield from listed("bomb", "300 MB of rows for 8 x 8", lambda: long, ".png", "either")
    yield from listed(
        "bomb",
        "100,000 chunks",
        lambda: png(8, 8, bytes(200), more=_chunk(b"tEXt", b"a\0b") * 100_000),
        ".png",
        "either",
    )
    for count in (100, 20_000):
        yield from listed("bomb", f"JPEG of {count} scans", functools.partial(_scans, count), ".jpg", "either")
    yield from listed("bomb", "GIF of 2,000 frames", functools.partial(_gif_frames, 2000, 500), ".gif", "load")
    yield from listed("bomb", "TIFF of 60,000 tags", functools.partial(_tiff, 8, 8, 60_000), ".tif", "either")


# --- forms


def form_inputs() -> Iterator[Input]:
    """Images of every form, which must be read, and files that are no images."""
    from PIL import Image

    forms: dict[str, tuple[Content, str]] = {
        "CMYK JPEG": (lambda: encoded(picture("CMYK"), "JPEG"), ".jpg"),
        "grey JPEG": (lambda: encoded(picture("L"), "JPEG"), ".jpg"),
        "progressive JPEG": (lambda: encoded(picture(), "JPEG", progressive=True), ".jpg"),
        "16 bits of grey": (lambda: encoded(picture("I;16"), "PNG"), ".png"),
        "16 bits of colour": (lambda: png(8, 8, bytes(8 * 49), depth=16), ".png"),
        "1 bit": (lambda: encoded(picture("1"), "PNG"), ".png"),
        "palette": (lambda: encoded(picture("P"), "PNG"), ".png"),
        "palette with transparency": (lambda: encoded(picture("P"), "PNG", transparency=3), ".png"),
        "grey with alpha": (lambda: encoded(picture("LA"), "PNG"), ".png"),
        "alpha": (lambda: encoded(picture("RGBA"), "WEBP"), ".webp"),
        "ICC profile": (lambda: encoded(picture(), "JPEG", icc_profile=bytes(range(256)) * 900), ".jpg"),
        "wrong ICC profile": (lambda: encoded(picture(), "PNG", icc_profile=b"no profile"), ".png"),
        "1 x 1": (lambda: encoded(picture(size=(1, 1)), "PNG"), ".png"),
        "1 x 5,000": (lambda: encoded(picture(size=(1, 5000)), "PNG"), ".png"),
        "16,000 x 1": (lambda: encoded(picture(size=(16_000, 1)), "JPEG"), ".jpg"),
    }
    for name, (content, suffix) in forms.items():
        yield from listed("form", name, content, suffix, "load")
    for orientation in range(0, 10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        rotated = functools.partial(encoded, picture(), "JPEG", exif=exif.tobytes())
        yield from listed("form", f"EXIF orientation {orientation}", rotated, ".jpg", "load")
    frames = [picture(), picture().rotate(90), picture().rotate(180)]
    for kind, suffix in (("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("TIFF", ".tif")):
        animated = functools.partial(encoded, frames[0], kind, save_all=True, append_images=frames[1:])
        yield from listed("form", f"animated {kind}", animated, suffix, "load")
    for kind in ("PNG", "JPEG", "WEBP"):
        for suffix in (".png", ".jpg", ".JPEG", ".webp"):
            yield from listed("form", f"{kind} called {suffix}", functools.partial(sound, kind), suffix, "load")
    foreign = {
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "HTML": b"<html>404</html>",
        "nothing": b"",
        "text": b"a picture\n",
        "zeros": bytes(1000),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
        "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "ICO": b"\0\0\1\0\1\0\1\1\0\0\1\0\x18\0\x30\0\0\0\x16\0\0\0" + bytes(48),
    }
    for name, data in foreign.items():
        for suffix in (".png", ".jpg", ".webp"):
            yield from listed("no image", f"{name} called {suffix}", lambda d=data: d, suffix)


# --- folders


def _fill(folder: Path, count: int = 3) -> None:
    for label in "ab":
        (folder / label).mkdir()
        for number in range(count):
            size = (8 + number % 50, 8 + number // 50 + (label == "b") * 100)
            (folder / label / f"{number}.png").write_bytes(encoded(picture(size=size), "PNG"))


def _loop(folder: Path) -> None:
    (folder / "a" / "loop").symlink_to("..")
    (folder / "a" / "self").symlink_to("self")
    (folder / "b" / "other").symlink_to("../a")


def _special(kind: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        path = folder / "a" / "odd.png"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
            os.chdir(here)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(kind)

    return put


def _names(folder: Path) -> None:
    data = (folder / "a" / "0.png").read_bytes()
    for number, name in enumerate(
        (b"\xff\xfe.png", "größe.png".encode(), b"a\nb.png", b"\x1b[31m.png", b"-rf.png", b"'; DROP TABLE x.png",
         b" .png", b"..png", "\u202egnp.png".encode(), b"a" * 250 + b".png", b"%s%n.png", b"{0.__class__}.png")
    ):  # fmt: skip
        with open(os.path.join(os.fsencode(folder / "a"), name), "wb") as out:
            out.write(data if number % 2 else encoded(picture(size=(30 + number, 9)), "PNG"))


def _deep(folder: Path) -> None:
    here = folder / "a"
    for _ in range(100):
        here = here / "folder"
        here.mkdir()
    (here / "x.png").write_bytes(encoded(picture(size=(99, 9)), "PNG"))


def _many(folder: Path, count: int = 5000) -> None:
    for label in "ab":
        for number in range(count):
            size = (1 + number % 100, 1 + number // 100 + 60 * (label == "b"))
            (folder / label / f"m{number}.png").write_bytes(png(*size, bytes((1 + 3 * size[0]) * size[1])))


def folder_inputs(full: bool) -> Iterator[Input]:
    """Folders with more than images in them."""
    places = ("/dev/zero", "/dev/null", "gone", "/etc", "..")
    puts: dict[str, tuple[Callable[[Path], None], str]] = {
        "loops of links": (_loop, "either"),
        **{f"a {kind}": (_special(kind), "either") for kind in ("pipe", "socket", "folder")},
        **{f"a link to {place}": (_special(place), "either") for place in places},
        "odd names": (_names, "load"),
        "100 folders deep": (_deep, "load"),
        "1,000 files": (functools.partial(_many, count=500), "load"),
    }
    if full:
        puts["10,000 files"] = (_many, "load")
    for name, (put, must) in puts.items():
        for way in WAYS:

            def attempt(folder: Path, put: Callable[[Path], None] = put, way: str = way) -> None:
                _fill(folder)
                put(folder)
                (_as_probes if way == "probes" else _as_task)(folder)

            yield Input("folder", f"{name}, as {way}", attempt, must)


# --- damage


def damage_inputs(step: int, count: int, seed: int) -> Iterator[Input]:
    kinds = {
        "PNG": ".png",
        "JPEG": ".jpg",
        "WEBP": ".webp",
        "GIF": ".gif",
        "TIFF": ".tif",
        "BMP": ".bmp",
        "PPM": ".ppm",
    }
    for kind, suffix in kinds.items():
        for length in range(0, len(sound(kind)) - 1, step):
            for way, attempt in both(lambda k=kind, n=length: sound(k)[:n], suffix):
                yield Input("truncated", f"{kind} after {length} bytes, as {way}", attempt, "either")
    for number in range(count):
        kind = random.Random(f"{seed} {number}").choice(sorted(kinds))

        def content(kind: str = kind, number: int = number) -> bytes:
            return mutated(sound(kind), random.Random(f"{seed} {number}"))

        attempts = dict(both(content, kinds[kind]))
        yield Input("mutated", f"{kind} {number}", attempts[WAYS[number % 2]], "either")


def inputs(count: int, seed: int) -> list[Input]:
    """All inputs; `count` random mutations."""
    full = count > 1000
    several = [*bomb_inputs(), *form_inputs(), *folder_inputs(full)]
    return [*several, *damage_inputs(64 if full else 256, count, seed)]


if __name__ == "__main__":
    main(__file__, "images and folders", inputs, short=200, full=10_000, growth=1024)
