"""JPEG files: the same pixels, or the same error, as by Pillow alone."""

import io

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.jpeg import decode_jpeg
from cim_lightning.errors import BadImageError
from tests.odd_files import BAD, JPEG, ODD, RGB, encoded

SMOOTH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)).resize((67, 45))
OPTIONS = [
    {"quality": quality, "subsampling": subsampling, "progressive": progressive, "restart_marker_blocks": 3}
    for quality in (30, 95)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
    for progressive in (False, True)
]
PLAIN = [encoded(SMOOTH, "JPEG", **options) for options in OPTIONS]
PLAIN += [encoded(SMOOTH.convert("L"), "JPEG"), encoded(SMOOTH, "JPEG", keep_rgb=True)]


def outcome(data: bytes, arrays: bool) -> bytes | str:
    """The pixels of a file, or the error."""
    try:
        pixels = decode(data, arrays=arrays)
    except BadImageError as error:
        return str(error)
    return np.asarray(pixels).tobytes()


@pytest.mark.parametrize("data", [*PLAIN, *ODD.values(), *BAD.values()])
def test_any_file_has_the_same_pixels_or_the_same_error_as_by_pillow(data):
    assert outcome(data, arrays=True) == outcome(data, arrays=False)


def test_ordinary_photographs_do_not_need_pillow():
    assert all(decode_jpeg(data) is not None for data in PLAIN)
    decoded = decode(JPEG, arrays=True)
    assert (type(decoded), decoded.dtype) == (np.ndarray, np.uint8)
    assert np.array_equal(decoded, Image.open(io.BytesIO(JPEG)))


@pytest.mark.parametrize(
    "name", ["cmyk.jpg", "rotated.jpg", "two pictures.jpg", "gray16.png", "animated.gif"]
)
def test_pillow_decodes_what_is_not_ordinary(name):
    assert decode_jpeg(ODD[name]) is None


def test_a_converted_image_is_pillows():
    assert decode(encoded(RGB, "PNG"), arrays=True).mode == "RGB"


@pytest.mark.user_input("file", "300 JPEG files with random damages", "the pixels or the error of Pillow")
def test_damaged_files_have_the_same_pixels_or_the_same_error_as_by_pillow():
    rng, decoded = np.random.default_rng(1), 0
    for i in range(300):
        data = bytearray(PLAIN[i % len(PLAIN)])
        place, length = int(rng.integers(2, len(data))), int(rng.integers(1, 20))
        damage = [bytes([data[place] ^ 1 << int(rng.integers(8))]), b"", rng.bytes(length)][i % 3]
        data[place : place + (1 if i % 3 == 0 else length)] = damage
        expected = outcome(bytes(data), arrays=False)
        assert outcome(bytes(data), arrays=True) == expected
        decoded += isinstance(expected, bytes)
    assert 60 < decoded < 290
