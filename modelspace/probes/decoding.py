"""Decoding image files to 8-bit RGB in bounded memory: squares for probe sets, whole images for tasks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from modelspace.errors import DamagedError, ProbeError, UsageError
from modelspace.files import NotRegularError, open_regular

#: Largest number of pixels of a decoded image; each takes up to four bytes in each of a few copies.
MAX_PIXELS = 64_000_000

#: Largest number of pixels times scans of a progressive JPEG; encoders write about ten scans.
MAX_SCANNED = 2_000_000_000

_SCAN = b"\xff\xda"

#: Background of transparent pixels.
BACKGROUND = (255, 255, 255)

#: Formats of images of probe sets.
_PROBE_FORMATS = ("PNG", "JPEG", "WEBP")

#: Formats of images of tasks. Pillow reads more, some of them by other programs (PostScript).
FORMATS = (*_PROBE_FORMATS, "BMP", "GIF", "TIFF", "PPM")

#: EXIF orientation (TIFF tag 274) -> the transposition that turns the image upright.
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_square(file: Path, size: int) -> np.ndarray:
    """Read an image file: the central square of the first frame, upright, on white where transparent, resized.

    16-bit grey is scaled to 8 bits (65535 becomes 255); colour profiles are not applied. Resizing is bilinear with
    antialiasing. Very large JPEG files are decoded at a half, a quarter or an eighth of their size.

    Args:
        file: PNG, JPEG or WebP, recognised by its content.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        ProbeError: the file (named) can't be read. An image with more than `MAX_PIXELS` is refused after its header is
            read, before memory is allocated for it.
    """
    return _read(file, lambda stream: _square(stream, size))


def read_whole(file: Path) -> np.ndarray:
    """Read an image file as it is: the first frame, upright, on white where transparent, neither cropped nor resized.

    Args:
        file: PNG, JPEG, WebP, BMP, GIF, TIFF or PNM, recognised by its content.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ProbeError: as `read_square`.
    """
    return _read(file, _whole)


def _read(file: Path, decode: Callable[[BinaryIO], np.ndarray]) -> np.ndarray:
    try:
        with open_regular(file) as stream, warnings.catch_warnings():
            # Pillow warns of broken metadata, and of sizes below its own limit; this module has its own limit.
            warnings.simplefilter("ignore")
            return decode(stream)
    except ProbeError as error:
        raise ProbeError(f"the image {file} {error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise ProbeError(f"the image {file} does not exist", "is it a link to a missing file?") from error
    except (PermissionError, NotRegularError) as error:
        raise ProbeError(f"the image {file} can't be read: {error.strerror}") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ProbeError(f"the image {file} {_TOO_LARGE}", _SMALLER) from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and others.
        raise ProbeError(
            f"the image {file} is broken: {' '.join(str(error).split()) or type(error).__name__}",
            "repair it or remove it from the folder",
        ) from error


_TOO_LARGE = f"is too large: the limit is {MAX_PIXELS // 1_000_000} million pixels"
_SMALLER = "make it smaller or remove it from the folder"


def _square(stream: BinaryIO, size: int) -> np.ndarray:
    try:
        image: Image.Image = Image.open(stream, formats=_PROBE_FORMATS)
    except UnidentifiedImageError as error:
        raise ProbeError("is not a PNG, JPEG or WebP image, despite its name") from error
    with image:
        if image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
            # Decoded by blocks, so that only the reduced image is in memory; twice the size remains for resizing.
            image.draft(None, (2 * size, 2 * size))
        if image.width * image.height > MAX_PIXELS:
            raise ProbeError(f"has {image.width} x {image.height} pixels and {_TOO_LARGE}", _SMALLER)
        _check_scans(image, stream)
        image.load()
        upright = _upright(image)
        rgb = _to_rgb(upright)
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = rgb.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


def _whole(stream: BinaryIO) -> np.ndarray:
    with Image.open(stream, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ProbeError(f"has {image.width} x {image.height} pixels and {_TOO_LARGE}", _SMALLER)
        _check_scans(image, stream)
        image.load()
        return np.asarray(_to_rgb(_upright(image)))


def _check_scans(image: Image.Image, stream: BinaryIO) -> None:
    """Refuse a progressive JPEG that goes over its pixels so often that decoding would take minutes or hours."""
    if image.format not in ("JPEG", "MPO") or not image.info.get("progressive"):
        return
    place = stream.tell()
    stream.seek(0)
    scans, last = 0, b""
    while block := stream.read(1 << 20):
        # Within a scan, this byte is always followed by a zero; a preview in the metadata adds a few.
        scans += (last + block).count(_SCAN)
        last = block[-1:]
    stream.seek(place)
    if scans * image.width * image.height > MAX_SCANNED:
        raise ProbeError(
            f"has {scans:,} scans of {image.width} x {image.height} pixels, which would take too long",
            "save it again, or remove it from the folder",
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return image  # The metadata is broken, the image is not.
    transposition = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if transposition is None else image.transpose(transposition)


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of the same size."""
    if image.mode.startswith("I"):
        # 16-bit grey. Pillow's own conversion to 8 bits clips at 255.
        values = np.asarray(image).astype(np.float32)
        return Image.fromarray(np.rint(values.clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), layered).convert("RGB")
    return image.convert("RGB")


def encode_png(image: np.ndarray) -> bytes:
    """See `modelspace.probes.encode_png`."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"a probe image is (height, width, 3) uint8, not {image.shape} {image.dtype}")
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "PNG")
    return stream.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """See `modelspace.probes.decode_png`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        with image:
            if image.mode != "RGB" or image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, mode {image.mode}")
            return np.array(image)
    except Exception as error:
        raise DamagedError(
            f"a stored probe image can't be read: {' '.join(str(error).split()) or type(error).__name__}",
            "restore the registry from a copy, or add the probe set again",
        ) from error
