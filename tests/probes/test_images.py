"""Reading one image file: modes, orientation, transparency, broken and dangerous files."""

import io
import os
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from unprivileged_reader import open_folder, unprivileged

from modelspace.errors import DamagedError, ProbeError, UsageError
from modelspace.probes import decode_png, encode_png
from modelspace.probes.decoding import BACKGROUND, MAX_PIXELS, read_square, read_whole


def save(path, image, **options):
    image.save(path, **options)
    return path


def picture(height, width, seed=0):
    """A smooth colour picture (H, W, 3) uint8, so that JPEG keeps it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def refused(path, size=8):
    with pytest.raises(ProbeError) as caught:
        read_square(path, size)
    assert str(path) in caught.value.message
    return caught.value


def crop_and_resize(image, size):
    """Central square, triangle filter widened to the scale: the definition, in float64, not rounded.

    image: (H, W, 3).
    """
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side].astype(np.float64)
    scale = side / size
    centers, pixels = (np.arange(size) + 0.5) * scale, np.arange(side) + 0.5
    weights = np.clip(1 - abs(pixels[None] - centers[:, None]) / max(scale, 1.0), 0, None)
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("ih,jw,hwc->ijc", weights, weights, square)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(40, 40, 16), (40, 64, 16), (40, 65, 16), (71, 32, 16), (9, 12, 24), (16, 16, 16)]
)
def test_central_square_and_resize_are_as_defined(tmp_path, height, width, size):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = read_square(save(tmp_path / "a.png", Image.fromarray(image)), size)
    assert (got.shape, got.dtype) == ((size, size, 3), np.uint8)
    # Pillow rounds once after each of its two passes.
    assert abs(got - crop_and_resize(image, size)).max() <= 1.01


def test_an_image_of_the_right_size_is_kept_bit_for_bit(tmp_path):
    image = picture(20, 20)
    assert np.array_equal(read_square(save(tmp_path / "a.png", Image.fromarray(image)), 20), image)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats(tmp_path, suffix):
    image = picture(32, 32)
    got = read_square(save(tmp_path / f"a.{suffix}", Image.fromarray(image), quality=95), 32)
    assert abs(got.astype(int) - image).mean() < 4


ORIENTATIONS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_undone(tmp_path, orientation):
    """The stored picture is turned the other way, as a camera held like that would store it."""
    upright = picture(24, 24)
    stored = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = read_square(save(tmp_path / "a.png", stored, exif=exif), 24)
    assert np.array_equal(got, upright)


def test_the_crop_is_taken_of_the_upright_picture(tmp_path):
    upright = picture(31, 48)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(np.rot90(upright, 1))), exif=exif)
    plain = save(tmp_path / "b.png", Image.fromarray(upright))
    assert np.array_equal(read_square(turned, 16), read_square(plain, 16))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0MM\0*\xe9", b"Exif\0\0junkjunkjunk"])
def test_broken_metadata_beside_a_sound_picture(tmp_path, suffix, exif):
    image = picture(32, 32)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(image), quality=95, exif=exif)
    assert abs(read_square(path, 32).astype(int) - image).mean() < 4


def test_an_orientation_that_does_not_exist_is_ignored(tmp_path):
    image = picture(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 99
    assert np.array_equal(read_square(save(tmp_path / "a.png", Image.fromarray(image), exif=exif), 8), image)


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    levels = np.array([[0, 257], [32768, 65535]], dtype=np.uint16)
    got = read_square(save(tmp_path / "a.png", Image.fromarray(levels)), 2)
    assert got[..., 0].tolist() == [[0, 1], [128, 255]]
    assert (got == got[..., :1]).all()


def png(width, height, depth, color, rows, chunks=b""):
    """A PNG file from its raw rows, for kinds that Pillow can't write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("color", "samples", "expected"),
    [
        (2, [65535, 32896, 0], [255, 128, 0]),  # 16-bit RGB
        (6, [65535, 32896, 0, 65535], [255, 128, 0]),  # 16-bit RGBA, opaque
        (4, [32896, 65535], [128, 128, 128]),  # 16-bit grey and alpha
    ],
)
def test_16_bit_colour(tmp_path, color, samples, expected):
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, color, [struct.pack(f">{len(samples)}H", *samples)]))
    assert read_square(tmp_path / "a.png", 1)[0, 0].tolist() == expected


def test_transparent_pixels_lie_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]], [[0, 0, 0, 128], [255, 0, 0, 51]]], dtype=np.uint8)
    got = read_square(save(tmp_path / "a.png", Image.fromarray(pixels)), 2)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha)
    assert abs(got - expected).max() <= 1
    assert got[0, 1].tolist() == [255, 255, 255]


def test_modes_without_three_channels(tmp_path):
    grey = Image.fromarray(picture(6, 6)[..., 0])
    for mode in ("L", "1", "P", "LA"):
        path = save(tmp_path / f"{mode}.png", grey.convert(mode))
        expected = np.asarray(grey.convert(mode).convert("RGB"))
        assert np.array_equal(read_square(path, 6), expected), mode
    colors = Image.fromarray(picture(6, 6)).quantize(8)
    assert np.array_equal(read_square(save(tmp_path / "p.png", colors), 6), np.asarray(colors.convert("RGB")))


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.putdata([0, 1])
    path = save(tmp_path / "a.png", image.resize((2, 2), Image.Resampling.NEAREST), transparency=1)
    assert read_square(path, 2)[0].tolist() == [[9, 8, 7], [255, 255, 255]]


def test_cmyk_jpeg(tmp_path):
    image = Image.fromarray(picture(16, 16))
    got = read_square(save(tmp_path / "a.jpg", image.convert("CMYK"), quality=95), 16)
    assert abs(got.astype(int) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], duration=50)
    red, _, blue = read_square(path, 8)[4, 4].tolist()
    assert red > 240
    assert blue < 10


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    path.write_bytes(path.read_bytes()[:-900])
    error = refused(path)
    assert " is broken: " in error.message
    assert error.hint == "repair it or remove it from the folder"


def test_a_flipped_byte_in_a_png_is_found(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(picture(64, 64)))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 255
    path.write_bytes(data)
    assert " is broken: " in refused(path).message


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + b"\0" * 40, b"\xff\xd8\xff"])
def test_files_that_are_no_images(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert refused(tmp_path / "a.png").message.endswith("is not a PNG, JPEG or WebP image, despite its name")


def test_the_content_counts_and_not_the_suffix(tmp_path):
    image = picture(8, 8)
    save(tmp_path / "a.jpg", Image.fromarray(image), format="PNG")
    assert np.array_equal(read_square(tmp_path / "a.jpg", 8), image)


def test_a_missing_file_and_a_link_to_itself(tmp_path):
    assert refused(tmp_path / "none.png").message.endswith("does not exist")
    (tmp_path / "a.png").symlink_to("a.png")
    assert "symbolic links" in refused(tmp_path / "a.png").message


@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_told_with_the_limit(tmp_path):
    assert MAX_PIXELS == 64_000_000
    (tmp_path / "a.png").write_bytes(png(8001, 8000, 8, 0, [b""]))
    error = refused(tmp_path / "a.png")
    assert error.message.endswith("has 8001 x 8000 pixels and is too large: the limit is 64 million pixels")
    assert error.hint == "make it smaller or remove it from the folder"
    # From 89 million on Pillow warns by itself, which would be printed beside the error.
    (tmp_path / "a.png").write_bytes(png(10_000, 10_000, 8, 0, [b""]))
    assert "has 10000 x 10000 pixels" in refused(tmp_path / "a.png").message
    (tmp_path / "b.png").write_bytes(png(8000, 8000, 8, 0, [b""]))
    assert " is broken: " in refused(tmp_path / "b.png").message


READ_AND_MEASURE = """
import resource, sys
from pathlib import Path
from PIL import Image
import numpy as np
import io
from modelspace.errors import ProbeError
from modelspace.probes.decoding import read_square
for kind in ("PNG", "JPEG", "WEBP"):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, kind)
    Image.open(stream).load()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(read_square(Path(sys.argv[1]), 64).mean())
except ProbeError as error:
    print(error.message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def read_and_measure(path):
    """The output of reading an image in a fresh process, and how many megabytes its memory grew by."""
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    said, kilobytes = done.stdout.splitlines()
    assert done.stderr == ""
    return said, int(kilobytes) / 1000


@pytest.mark.wide
def test_30000_pixels_square_are_refused_without_setting_memory_aside(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(30_000, 30_000, 1, 0, [bytes(3750)] * 30_000))
    assert (tmp_path / "bomb.png").stat().st_size < 200_000
    said, megabytes = read_and_measure(tmp_path / "bomb.png")
    assert "bomb.png is too large: the limit is 64 million pixels" in said
    assert megabytes < 20


def test_a_webp_that_claims_16383_pixels_square(tmp_path):
    stream = io.BytesIO()
    frames = [Image.new("RGBA", (10, 10), (k, 0, 0, 9)) for k in range(2)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    data = bytearray(stream.getvalue())
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (16382).to_bytes(3, "little") * 2
    (tmp_path / "bomb.webp").write_bytes(data)
    said, megabytes = read_and_measure(tmp_path / "bomb.webp")
    assert "bomb.webp is " in said
    assert megabytes < 20


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    """9000 x 9000 pixels in colour are 324 MB in Pillow's memory, and 5 MB at an eighth."""
    save(tmp_path / "a.jpg", Image.new("L", (9000, 9000), 100), quality=50)
    said, megabytes = read_and_measure(tmp_path / "a.jpg")
    assert float(said) == pytest.approx(100, abs=1)
    assert megabytes < 40


@pytest.mark.wide
def test_but_not_a_progressive_one_whose_decoder_holds_all_of_it(tmp_path):
    save(tmp_path / "a.jpg", Image.new("L", (9000, 9000), 100), quality=50, progressive=True)
    said, megabytes = read_and_measure(tmp_path / "a.jpg")
    assert "has 9000 x 9000 pixels and is too large" in said
    assert megabytes < 20


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs file permissions")
def test_a_file_that_may_not_be_read():
    with open_folder() as folder:
        path = save(folder / "a.png", Image.new("RGB", (4, 4)))
        path.chmod(0)
        with unprivileged():
            error = refused(path)
    assert error.message.endswith("can't be read: Permission denied")


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_png_round_trip(image):
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_a_decoded_image_can_be_written_to():
    image = decode_png(encode_png(np.zeros((2, 2, 3), dtype=np.uint8)[::-1]))
    image[0] = 1


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (1, 4, 4, 3)])
def test_only_colour_images_are_encoded(shape):
    with pytest.raises(UsageError, match=r"a probe image is \(height, width, 3\) uint8"):
        encode_png(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(UsageError, match="float64"):
        encode_png(np.zeros((4, 4, 3)))


def test_stored_bytes_that_are_damaged():
    whole = encode_png(picture(16, 16))
    stream = io.BytesIO()
    Image.new("L", (3, 3)).save(stream, "PNG")
    for data in (b"", b"x", whole[:-40], stream.getvalue(), png(30_000, 30_000, 8, 2, [b""])):
        with pytest.raises(DamagedError, match="a stored probe image can't be read"):
            decode_png(data)


def test_the_subprocess_sees_errors():
    """An error of the measuring program fails the test, so that empty output never counts as success."""
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", textwrap.dedent(READ_AND_MEASURE)], capture_output=True, check=True)


def test_a_progressive_jpeg_that_repeats_a_scan_for_hours(tmp_path):
    Image.new("L", (1500, 1500)).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_square(tmp_path / "a.jpg", 8).shape == (8, 8, 3)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "b.jpg").write_bytes(data[:last] + data[last:-2] * 1000 + data[-2:])
    for read in (lambda path: read_square(path, 8), read_whole):
        with pytest.raises(ProbeError, match=r"b\.jpg has 1,0\d\d scans of 1500 x 1500 pixels"):
            read(tmp_path / "b.jpg")


def test_no_other_program_is_started_for_an_image(tmp_path):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ProbeError, match="is broken: cannot identify image file"):
        read_whole(tmp_path / "a.png")
