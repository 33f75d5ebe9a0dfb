"""Decoding of all file formats, compared with pixel values computed by hand."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.decode import bad_image_errors, decode
from cim_lightning.errors import BadImageError, ConfigError, LoadingError
from tests.lookalikes import tiff_bytes

# 2 rows, 3 columns, all pixels different, so that all rotations and flips differ
CORNERS = np.array(
    [[[255, 0, 0], [9, 9, 9], [0, 255, 0]], [[0, 0, 255], [99, 99, 99], [255, 255, 0]]], np.uint8
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def gray(values) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8)[..., None], 3, axis=-1)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, depth: int, color: int, row: bytes) -> bytes:
    """A PNG of one row."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + png_chunk(b"IDAT", zlib.compress(b"\0" + row)) + png_chunk(b"IEND", b"")


def tiff(bits: int, width: int, data: bytes) -> bytes:
    """One uncompressed row of `bits`-bit gray."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def palette(*colors: int) -> Image.Image:
    """One row: a pixel of each color."""
    image = Image.fromarray(np.arange(len(colors) // 3, dtype=np.uint8)[None])
    image.putpalette(colors)
    return image


ROW = palette(10, 20, 30, 40, 50, 60, 70, 80, 90)
ROW_PIXELS = [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
WITH_TRANSPARENCY = [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
BITS = Image.fromarray(np.array([[True, False, True]]))
GRAY = Image.fromarray(np.uint8([[30, 30, 0]]))
ALPHA = Image.fromarray(np.uint8([[255, 0, 51]]))  # 51 / 255: a fifth of the color, 0.8 * 255 = 204 of white
RGBA = Image.fromarray(np.uint8([[[100, 0, 200, 255], [9, 9, 9, 0], [0, 100, 255, 51]]]))
OVER_WHITE = [[[100, 0, 200], [255, 255, 255], [204, 224, 255]]]
EXACT = {
    **{kind: (encoded(Image.fromarray(CORNERS), kind), CORNERS) for kind in ("PNG", "BMP", "TIFF", "GIF")},
    "WebP": (encoded(Image.fromarray(CORNERS), "WEBP", lossless=True), CORNERS),
    "gray": (encoded(GRAY, "PNG"), gray([[30, 30, 0]])),
    "1-bit PNG": (encoded(BITS, "PNG"), gray([[255, 0, 255]])),
    "1-bit TIFF": (encoded(BITS, "TIFF"), gray([[255, 0, 255]])),
    **{f"palette {kind}": (encoded(ROW, kind), ROW_PIXELS) for kind in ("PNG", "GIF", "TIFF", "BMP")},
    **{
        f"one clear {kind}": (encoded(ROW, kind, transparency=1), WITH_TRANSPARENCY)
        for kind in ("PNG", "GIF")
    },
    "palette alpha": (
        encoded(palette(0, 0, 0, 40, 50, 60), "PNG", transparency=bytes([51, 255])),
        [[[204, 204, 204], [40, 50, 60]]],
    ),
    **{f"RGBA {kind}": (encoded(RGBA, kind, lossless=True), OVER_WHITE) for kind in ("PNG", "WEBP", "TIFF")},
    "LA": (encoded(Image.merge("LA", [GRAY, ALPHA]), "PNG"), gray([[30, 255, 204]])),
    "clear color": (encoded(ROW.convert("RGB"), "PNG", transparency=(40, 50, 60)), WITH_TRANSPARENCY),
    "16-bit color": (
        png(2, 16, 2, struct.pack(">6H", 0, 25700, 65535, 65535, 257, 0)),
        [[[0, 100, 255], [255, 1, 0]]],
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_lossless_files_are_decoded_exactly(name, tmp_path):
    data, expected = EXACT[name]
    np.testing.assert_array_equal(pixels(data), expected)
    path = tmp_path / "image"
    path.write_bytes(data)
    np.testing.assert_array_equal(np.asarray(decode(path)), expected)
    np.testing.assert_array_equal(np.asarray(decode(str(path))), expected)


def test_jpeg_is_decoded_approximately():
    data = encoded(Image.new("RGB", (16, 8), (200, 100, 50)), "JPEG", quality=95)
    np.testing.assert_allclose(pixels(data).astype(int), np.broadcast_to((200, 100, 50), (8, 16, 3)), atol=2)


def test_cmyk_jpeg():
    # R = 255 * (1 - C) * (1 - K): C = 0.2, M = 0.4, Y = 0.6, K = 0 and then the same with K = 0.2
    light = encoded(Image.new("CMYK", (8, 8), (51, 102, 153, 0)), "JPEG", quality=100)
    dark = encoded(Image.new("CMYK", (8, 8), (51, 102, 153, 51)), "JPEG", quality=100)
    np.testing.assert_allclose(pixels(light)[0, 0].astype(int), (204, 153, 102), atol=2)
    np.testing.assert_allclose(pixels(dark)[0, 0].astype(int), (163, 122, 82), atol=2)


def test_ycck_jpeg():
    # Pillow writes CMYK only. With the value 2 in the transform byte of Adobe's marker, the planes are YCCK.
    # They are inverted in the file: Y = 100, Cb = Cr = 128, so C = M = Y = 100, and K = 51.
    data = encoded(Image.new("CMYK", (8, 8), (155, 127, 127, 51)), "JPEG", quality=100)
    flag = data.index(b"Adobe") + 11
    assert data[flag] == 0
    data = data[:flag] + b"\x02" + data[flag + 1 :]
    np.testing.assert_allclose(pixels(data)[0, 0].astype(int), (124, 124, 124), atol=2)  # 155 * 204 / 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled(kind):
    ramp = np.uint16([[0, 128, 129, 257, 25700, 32768, 65535]])
    data = encoded(Image.fromarray(ramp), kind)
    np.testing.assert_array_equal(pixels(data), gray([[0, 0, 1, 1, 100, 128, 255]]))  # value / 257


def test_dark_sixteen_bit_gray_is_not_stretched():
    data = encoded(Image.fromarray(np.uint16([[0, 514]])), "PNG")
    np.testing.assert_array_equal(pixels(data), gray([[0, 2]]))


def test_twelve_bit_gray():
    # 0, 0x800 and 0xFFF, three hexadecimal digits each, padded to whole bytes: 2048 / 4095 * 255 = 127.5
    data = tiff(12, 3, bytes.fromhex("000800fff0"))
    np.testing.assert_allclose(pixels(data).astype(int), gray([[0, 128, 255]]).astype(int), atol=1)


WIDE = [
    (np.int32([[0, 257, 65535]]), [0, 1, 255]),  # 16-bit pixels in a wide container
    (np.int32([[-100, 0, 155]]), [0, 100, 255]),  # not a usual range: stretched
    (np.int32([[0, 100_000, 200_000]]), [0, 128, 255]),
    (np.int32([[-7, -7, -7]]), [0, 0, 0]),
    (np.float32([[0, 0.2, 0.6]]), [0, 51, 153]),
    (np.float32([[0, 1.6, 200]]), [0, 2, 200]),
    (np.float32([[0, 257, 25700]]), [0, 1, 100]),
    (np.float32([[-1, 0, 1]]), [0, 128, 255]),
    (np.float32([[np.nan, 1, np.inf]]), [0, 255, 0]),
    (np.float32([[np.nan, np.nan, np.nan]]), [0, 0, 0]),
]


@pytest.mark.parametrize(("values", "expected"), WIDE)
def test_wide_pixels_are_scaled_not_clipped(values, expected):
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), "TIFF")), gray([expected]))


ORIENTED = {
    1: CORNERS,
    2: CORNERS[:, ::-1],
    3: CORNERS[::-1, ::-1],
    4: CORNERS[::-1],
    5: CORNERS.transpose(1, 0, 2),
    6: np.rot90(CORNERS, -1),  # the camera was on its left side: rotate by 90 degrees clockwise
    7: CORNERS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(CORNERS, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(CORNERS), kind, exif=exif, **options)
    np.testing.assert_array_equal(pixels(data), ORIENTED[orientation])


def oriented(image: Image.Image, orientation: object, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "PNG", exif=exif, **options)


def test_exif_orientation_of_16_bit_gray():
    ramp = np.uint16([[0, 257, 25700], [514, 771, 65535]])
    expected = np.rot90(gray([[0, 1, 100], [2, 3, 255]]), -1)
    np.testing.assert_array_equal(pixels(oriented(Image.fromarray(ramp), 6)), expected)


def test_exif_orientation_of_a_transparent_palette():
    np.testing.assert_array_equal(
        pixels(oriented(ROW, 8, transparency=1)), np.rot90(np.uint8(WITH_TRANSPARENCY), 1)
    )


def test_exif_after_the_pixels_of_a_png():
    data = oriented(Image.fromarray(CORNERS), 6)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    end = len(data) - 12  # start of the last chunk, IEND
    moved = data[:start] + data[stop:end] + data[start:stop] + data[end:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    np.testing.assert_array_equal(pixels(moved), ORIENTED[6])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    np.testing.assert_array_equal(pixels(oriented(Image.fromarray(CORNERS), orientation)), CORNERS)


def test_unreadable_exif_is_ignored():
    data = encoded(Image.fromarray(CORNERS), "PNG", exif=b"Exif\0\0no such thing")
    np.testing.assert_array_equal(pixels(data), CORNERS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_only_the_first_frame_of_an_animation_is_decoded(kind):
    frames = [Image.new("RGB", (4, 4), color) for color in [(255, 0, 0), (0, 255, 0)]]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_allclose(pixels(data)[0, 0].astype(int), (255, 0, 0), atol=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_files_are_bad(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadImageError, match=r"half\.jpg'") as caught:
        decode(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"just text\n", "not an image"), (None, "No such file")],
)
def test_the_error_names_the_file_in_one_line(content, reason, tmp_path: Path):
    path = tmp_path / "odd\nname.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImageError, match=reason) as caught:
        decode(path)
    assert str(caught.value).count(r"odd\nname.jpg") == 1
    assert "\n" not in str(caught.value)


def test_the_error_of_bad_bytes_has_their_number():
    with pytest.raises(BadImageError, match=r"^4 bytes: not an image"):
        decode(b"text")


def test_formats_that_run_programs_are_refused():
    with pytest.raises(BadImageError, match="not an image"):
        decode(encoded(Image.fromarray(CORNERS), "EPS"))


def test_a_tiff_of_many_bands_is_bad_without_a_log_line(caplog):
    bands = tiff_bytes(np.zeros((4, 4, 8), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadImageError):
        decode(bands)
    assert caplog.messages == []


def test_decompression_bombs_are_bad_and_large_images_are_not(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(Image.new("L", (15, 10)), "PNG")).size == (15, 10)  # here Pillow only warns
    with pytest.raises(BadImageError, match="decompression bomb"):
        decode(encoded(Image.new("L", (15, 14)), "PNG"))


def test_a_missing_package_is_no_bad_image():
    """All images of the format need it: skipping them one by one would hide the reason."""
    with pytest.raises(ConfigError, match=r"^missing$"), bad_image_errors("a.dcm"):
        raise ConfigError("missing")


@pytest.mark.fault(
    "data", "too many open files in a process that decodes", "one line; intact images are not listed as bad"
)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_without_free_descriptors_makes_no_image_bad(number):
    with (
        pytest.raises(
            LoadingError, match=r"^num_workers: too many open files: .*; try fewer workers, or ulimit"
        ),
        bad_image_errors("a.png"),
    ):
        raise OSError(number, os.strerror(number))
    with pytest.raises(BadImageError, match="Input/output error"), bad_image_errors("a.png"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
