"""PNG files with damaged or oversized metadata, which browsers show."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.png_metadata import without_metadata
from cim_lightning.errors import BadImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
ZEROS = zlib.compress(bytes(2_000_000))  # 2 kB that become more than Pillow's limit of 1 MB


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


PNG = encoded(Image.fromarray(PIXELS))
HEADER = 8 + 25  # signature and IHDR


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunk(*args, png: bytes = PNG) -> bytes:
    """Insert a chunk behind the header."""
    return png[:HEADER] + chunk(*args) + png[HEADER:]


def turned(png: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return with_chunk(b"eXIf", exif.tobytes()[6:], png=png)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            with_chunk(b"zTXt", b"Comment\0\0" + ZEROS),
            marks=pytest.mark.user_input(
                "file",
                "PNG with a compressed text of 2 MB",
                "decoded without the text",
                source="https://github.com/python-pillow/Pillow/issues/8363",
            ),
            id="zTXt",
        ),
        pytest.param(with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + ZEROS), id="iTXt"),
        pytest.param(
            with_chunk(b"iCCP", b"profile\0\0" + ZEROS),
            marks=pytest.mark.user_input(
                "file",
                "PNG with an ICC profile of 2 MB",
                "decoded without the profile",
                source="https://github.com/python-pillow/Pillow/issues/2445",
            ),
            id="iCCP",
        ),
        pytest.param(with_chunk(b"iCCP", b"profile\0\7" + ZEROS), id="unknown compression"),
        pytest.param(
            PNG[:HEADER] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000))) * 80 + PNG[HEADER:],
            id="72 MB of texts",
        ),
        pytest.param(
            with_chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"icc"), 7),
            marks=pytest.mark.user_input(
                "file",
                "PNG with a wrong checksum of its ICC profile",
                "decoded without the profile",
                source="https://github.com/python-pillow/Pillow/issues/4472",
            ),
            id="iCCP checksum",
        ),
        pytest.param(
            with_chunk(b"pHYs", bytes(9), 7),
            marks=pytest.mark.user_input(
                "file",
                "PNG with a wrong checksum of its resolution",
                "decoded without the resolution",
                source="https://github.com/python-pillow/Pillow/issues/5978",
            ),
            id="pHYs checksum",
        ),
        pytest.param(with_chunk(b"pHYs", b""), id="empty pHYs"),
        pytest.param(with_chunk(b"tRNS", bytes(6), 7), id="tRNS checksum"),
        pytest.param(with_chunk(b"eXIf", b"no such thing"), id="unreadable EXIF"),
        pytest.param(with_chunk(b"acTL", b""), id="damaged animation"),
    ],
)
def test_metadata_do_not_matter(data):
    np.testing.assert_array_equal(np.asarray(decode(data)), PIXELS)


@pytest.mark.user_input(
    "file", "turned PNG with a damaged ICC profile", "upright: the intact EXIF is applied"
)
def test_orientation_and_transparency_are_used():
    damaged = with_chunk(b"iCCP", b"profile\0\0", 7, png=turned(PNG))
    np.testing.assert_array_equal(np.asarray(decode(damaged)), np.rot90(PIXELS, -1))
    clear = encoded(Image.fromarray(PIXELS), transparency=tuple(PIXELS[1, 2].tolist()))
    expected = np.array(PIXELS)
    expected[1, 2] = 255
    np.testing.assert_array_equal(np.asarray(decode(with_chunk(b"pHYs", bytes(9), 7, png=clear))), expected)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            PNG[:16] + chunk(b"IHDR", PNG[16:29], 7)[8:] + PNG[HEADER:],
            marks=pytest.mark.user_input(
                "file", "PNG with a wrong checksum of its header", "one line; skipped"
            ),
            id="header",
        ),
        pytest.param(with_chunk(b"pHYs", bytes(9), 7)[:-30], id="truncated pixels"),
        pytest.param(with_chunk(b"PLTE", bytes(6), 7), id="palette"),
        pytest.param(with_chunk(b"pHYs", bytes(9), 7)[:HEADER], id="no pixels"),
    ],
)
def test_damaged_pixels_are_bad(data):
    with pytest.raises(BadImageError, match=r"^\d+ bytes: "):
        decode(data)


def test_only_metadata_are_removed():
    assert without_metadata(with_chunk(b"tEXt", b"a\0b", png=turned(PNG))) == turned(PNG)
    assert without_metadata(PNG) == PNG
    jpeg = b"\xff\xd8 no PNG"
    assert without_metadata(jpeg) == jpeg
