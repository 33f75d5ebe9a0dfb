"""Reading of NPY files and the choice of the reader, compared with the arrays that were written."""

import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cim_lightning.data import array_layout
from cim_lightning.data.array_files import array_kind, read_array
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.errors import BadImageError, ConfigError
from tests.lookalikes import dicom_bytes, npy_bytes, tiff_bytes

RNG = np.random.default_rng(0)
BANDS = RNG.integers(0, 65536, (5, 7, 3), np.uint16)  # rows, columns, channels, all different
BANDS[0, 0, 0] = 65535


@pytest.mark.parametrize(
    ("array", "expected", "white"),
    [
        pytest.param(
            BANDS,
            BANDS,
            65535,
            marks=pytest.mark.user_input("pixels", "NPY of 16 bits, `h w c`", "read exactly"),
            id="channels last",
        ),
        pytest.param(
            BANDS.transpose(2, 0, 1),
            BANDS,
            65535,
            marks=pytest.mark.user_input("pixels", "NPY `c h w`", "the shorter outer axis has the channels"),
            id="channels first",
        ),
        pytest.param(BANDS[..., 0], BANDS[..., :1], 65535, id="gray"),
        pytest.param(BANDS[:3, :, :], BANDS[:3], 65535, id="equal axes"),
        pytest.param(
            BANDS.astype(">u2"),
            BANDS,
            65535,
            marks=pytest.mark.user_input("pixels", "NPY in big-endian order", "read exactly"),
            id="big endian",
        ),
        pytest.param(np.asfortranarray(BANDS), BANDS, 65535, id="Fortran order"),
        pytest.param(BANDS.astype(np.uint8), BANDS.astype(np.uint8), 255, id="8 bits"),
        pytest.param(BANDS.astype(np.int16), BANDS.astype(np.int16), 32767, id="signed"),
        pytest.param(BANDS > 9, (BANDS > 9).astype(np.uint8), 1, id="bool"),
        pytest.param(BANDS / 65535, BANDS / 65535, 1, id="double"),
        pytest.param(BANDS.astype(np.int64), BANDS.astype(np.int64), 65535, id="16 bits in wide integers"),
        pytest.param(BANDS.astype(np.uint32) * 2, BANDS.astype(np.uint32) * 2, 2**32 - 1, id="wide integers"),
    ],
)
def test_npy_files_are_read_exactly(array, expected, white):
    pixels, scale = read_array(npy_bytes(array), ".npy")
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == expected.dtype
    assert pixels.dtype.isnative
    assert scale == white


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def huge(data: bytes) -> bytes:
    """Claim 5,000 x 7,000 pixels of 3 channels, with the same length of the header."""
    claimed = data.replace(b"(20, 30, 3), }      ", b"(50000, 70000, 3), }")
    assert claimed != data
    return claimed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(
            npy_bytes(np.array([{"a": 1}], object)),
            r"is damaged \(Object arrays cannot be loaded",
            marks=pytest.mark.user_input(
                "file", "NPY with pickled objects", "one line; nothing is unpickled"
            ),
        ),
        (npy_bytes(np.zeros((20, 30), complex)), "has values of type complex128"),
        (npy_bytes(np.zeros((20, 30), "U3")), "has values of type <U3"),
        pytest.param(
            npy_bytes(np.zeros((30, 20, 40), np.uint8)),
            "has the shape 30x20x40; the channels must be the first or last axis, at most 16",
            marks=pytest.mark.user_input("pixels", "NPY of 30 slices", "one line with the shape"),
        ),
        (npy_bytes(np.zeros((2, 3, 20, 20), np.uint8)), "has the shape 2x3x20x20"),
        (npy_bytes(np.zeros(20, np.uint8)), "has the shape 20;"),
        (npy_bytes(np.zeros((0, 20, 3), np.uint8)), "has the shape 20x3x0; it has no pixel"),
        (cut(npy_bytes(BANDS)), "is damaged"),
        pytest.param(
            huge(npy_bytes(np.zeros((20, 30, 3), np.uint8))),
            "is damaged",
            marks=pytest.mark.user_input("file", "NPY that claims 10 GB", "one line, without the memory"),
        ),
        (b"\x93NUMPY", "is damaged"),
        (b"just text", "is neither"),
    ],
)
def test_other_npy_files_are_bad(data, reason):
    with pytest.raises(BadImageError, match=f"^{reason}"):
        read_array(data, ".npy")


def test_the_first_bytes_decide_about_the_format():
    assert array_kind(npy_bytes(BANDS)) == ".npy"
    assert array_kind(tiff_bytes(BANDS)) == array_kind(tiff_bytes(BANDS, byteorder=">")) == ".tif"
    assert array_kind(tiff_bytes(BANDS, bigtiff=True)) == ".tif"
    assert array_kind(dicom_bytes(BANDS[..., 0])) == ".dcm"
    assert array_kind(b"\x89PNG\r\n\x1a\n" + bytes(200)) is None
    assert array_kind(b"anything", ".DCM") == ".dcm"  # DICOM files without the signature exist
    np.testing.assert_array_equal(read_array(npy_bytes(BANDS), ".tif")[0], BANDS)


@pytest.mark.parametrize(
    ("module", "data"),
    [
        pytest.param(
            "tifffile",
            tiff_bytes(BANDS),
            marks=pytest.mark.user_input(
                "pixels", "multi-band TIFF without tifffile", "one line: pip install"
            ),
        ),
        pytest.param(
            "pydicom",
            dicom_bytes(BANDS[..., 0]),
            marks=pytest.mark.user_input("pixels", "DICOM without pydicom", "one line: pip install"),
        ),
    ],
)
def test_a_missing_package_is_one_line(module, data, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module} is missing; pip install 'cim-lightning\[scientific\]'"):
        read_array(data, "")


def test_channels_are_the_shorter_outer_axis():
    assert array_layout.channels_last(np.zeros((4, 16, 16))).shape == (16, 16, 4)
    assert array_layout.channels_last(np.zeros((16, 16, 4))).shape == (16, 16, 4)
    assert array_layout.channels_last(np.zeros((4, 3, 4))).shape == (4, 3, 4)
    assert array_layout.channels_last(np.zeros((8, 2, 9))).shape == (2, 9, 8)


@pytest.mark.user_input(
    "pixels",
    "PNG of 16-bit colors with `data.bits=16`",
    "all 16 bits are read",
    source="https://github.com/python-pillow/Pillow/issues/1888",
)
@pytest.mark.parametrize("channels", [3, 4])
def test_the_16_bits_of_a_png_of_colors_are_kept(channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), np.uint16)
    data = imagecodecs.png_encode(pixels)
    read, white = read_array(data, ".png")
    np.testing.assert_array_equal(read, pixels)
    assert white == 65535
    path = tmp_path / "deep.png"
    path.write_bytes(data)
    for source in (path, data):
        np.testing.assert_array_equal(PixelFormat(channels, 16).decode(source), pixels)
        assert PixelFormat(channels, 8).decode(source) is not None
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = data[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:]
    np.testing.assert_array_equal(read_array(turned, "")[0], np.rot90(pixels, -1))
    damaged = turned[:33] + chunk(b"tEXt", b"a\0b")[:-1] + b"?" + turned[33:]  # a wrong checksum
    np.testing.assert_array_equal(read_array(damaged, "")[0], np.rot90(pixels, -1))


def test_other_png_files_are_read_by_pillow(monkeypatch):
    gray, deep = np.uint16([[1, 256, 65535]]), imagecodecs.png_encode(BANDS)
    assert array_kind(imagecodecs.png_encode(gray)) is None
    assert array_kind(imagecodecs.png_encode(gray.astype(np.uint8))) is None
    np.testing.assert_array_equal(PixelFormat(1, 16).decode(imagecodecs.png_encode(gray))[..., 0], gray)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ConfigError, match="imagecodecs is missing"):
        read_array(deep, "")


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
