"""Reading of TIFF files of any layout, compared with the arrays that were written."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from cim_lightning.data.array_files import read_array
from cim_lightning.errors import BadImageError
from tests.lookalikes import tiff_bytes

BANDS = np.random.default_rng(0).integers(0, 65536, (37, 53, 8), np.uint16)
PLANES = BANDS.transpose(2, 0, 1)
SERIES = np.stack([[PLANES, PLANES + 1], [PLANES + 2, PLANES + 3]])  # times, slices, channels, rows, columns
BLACK = {"photometric": "minisblack"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            tiff_bytes(
                BANDS, planarconfig="contig", tile=(16, 32), compression="deflate", predictor=True, **BLACK
            ),
            marks=pytest.mark.user_input(
                "pixels",
                "TIFF of 8 bands and 16 bits in compressed tiles",
                "all bands are read exactly",
                source="https://github.com/alexhe101/FAME-Net/issues/6",
            ),
            id="interleaved tiles",
        ),
        pytest.param(
            tiff_bytes(PLANES, planarconfig="separate", rowsperstrip=5, compression="lzw", **BLACK),
            marks=pytest.mark.user_input(
                "pixels",
                "TIFF whose bands are stored one after the other",
                "read as the interleaved one",
                source="https://github.com/haraldk/TwelveMonkeys/issues/184",
            ),
            id="planar strips",
        ),
        pytest.param(
            tiff_bytes(BANDS, planarconfig="contig", byteorder=">", bigtiff=True, **BLACK),
            marks=pytest.mark.user_input("pixels", "big-endian BigTIFF", "read exactly"),
            id="big endian BigTIFF",
        ),
        pytest.param(
            tiff_bytes(PLANES, imagej=True, metadata={"axes": "CYX"}),
            marks=pytest.mark.user_input(
                "pixels",
                "ImageJ stack whose pages are channels",
                "the pages become channels",
                source="https://github.com/ray-project/ray/issues/42643",
            ),
            id="ImageJ",
        ),
        pytest.param(
            tiff_bytes(SERIES.transpose(0, 2, 1, 3, 4), ome=True, metadata={"axes": "TCZYX"}),
            marks=pytest.mark.user_input(
                "pixels", "OME-TIFF with times, channels and slices", "the first time and slice, all channels"
            ),
            id="OME",
        ),
        pytest.param(tiff_bytes(PLANES), id="tifffile, channels first"),
        pytest.param(tiff_bytes(BANDS), id="tifffile, channels last"),
    ],
)
def test_all_bands_are_read_exactly(data):
    pixels, white = read_array(data, ".tif")
    np.testing.assert_array_equal(pixels, BANDS)
    assert (pixels.dtype, white) == (np.uint16, 65535)


@pytest.mark.user_input(
    "pixels",
    "RGB TIFF of 16 bits",
    "read with 16 bits",
    source="https://github.com/python-pillow/Pillow/issues/1828",
)
def test_color_of_16_bits():
    pixels, white = read_array(tiff_bytes(BANDS[..., :3], photometric="rgb"), "")
    np.testing.assert_array_equal(pixels, BANDS[..., :3])
    assert white == 65535


@pytest.mark.user_input("pixels", "TIFF of several pages without names", "the first page is read")
def test_the_first_of_plain_pages_is_read():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in (BANDS[..., :3], BANDS[..., 3:6]):
            writer.write(page, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(read_array(file.getvalue(), "")[0], BANDS[..., :3])


def one_row(bits: int, width: int, data: bytes, **tags: int) -> bytes:
    """An uncompressed TIFF of one row of gray; `t262=0` sets tag 262."""
    values = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    values |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)


@pytest.mark.user_input("pixels", "TIFF of 12 bits", "4095 is white")
def test_twelve_bits():
    # 0, 0x801 and 0xFFF, three hexadecimal digits each, padded to whole bytes
    pixels, white = read_array(one_row(12, 3, bytes.fromhex("000801fff0")), "")
    np.testing.assert_array_equal(pixels, [[[0], [0x801], [0xFFF]]])
    assert white == 4095


def test_an_image_whose_smallest_value_is_white_is_inverted():
    data = one_row(8, 3, bytes([0, 100, 255]), t262=0)
    np.testing.assert_array_equal(read_array(data, "")[0], [[[255], [155], [0]]])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), [[255, 155, 0]])  # as in Pillow
    pixels, white = read_array(one_row(1, 8, bytes([0b01100000]), t262=0), "")
    assert (pixels.ravel().tolist(), white) == ([1, 0, 0, 1, 1, 1, 1, 1], 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_as_in_pillow(orientation):
    ramp = np.arange(6, dtype=np.uint16).reshape(2, 3)
    data = tiff_bytes(ramp, extratags=[(274, 3, 1, orientation, True)])
    image = Image.open(io.BytesIO(data))
    image.load()  # Pillow removes the orientation of a TIFF while loading
    pixels, _ = read_array(data, "")
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(
    ("array", "nodata", "expected"),
    [
        pytest.param(
            np.float32([[0.5, -3.4e38, 0.25]]),
            "-3.4e38",
            [[0.5, 0, 0.25]],
            marks=pytest.mark.user_input(
                "pixels", "GeoTIFF with GDAL's NoData value", "such pixels become 0"
            ),
        ),
        (np.uint16([[5, 65535, 7]]), "65535", [[5, 0, 7]]),
        (np.float32([[5, np.nan]]), "nan", [[5, np.nan]]),
        (np.uint16([[5, 65535, 7]]), "nothing", [[5, 65535, 7]]),
    ],
)
def test_pixels_without_data_become_zero(array, nodata, expected):
    data = tiff_bytes(array, extratags=[(42113, 2, 0, nodata, True)])
    np.testing.assert_array_equal(read_array(data, "")[0][..., 0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_other_types_are_read_exactly(dtype):
    array = np.arange(-3, 3).reshape(2, 3).astype(dtype)
    pixels, white = read_array(tiff_bytes(array), "")
    np.testing.assert_array_equal(pixels[..., 0], array)
    assert (pixels.dtype, white) == (dtype, {np.uint8: 255, np.int16: 32767}.get(dtype, 1))


PALETTE = tiff_bytes(
    np.zeros((4, 4), np.uint8), photometric="palette", colormap=np.zeros((3, 256), np.uint16)
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (PALETTE, "has a palette; convert it to RGB"),
        pytest.param(
            tiff_bytes(BANDS, **BLACK, planarconfig="contig")[:-1000],
            "is damaged",
            marks=pytest.mark.user_input(
                "file", "truncated multi-band TIFF", "one line; the image is skipped"
            ),
        ),
        pytest.param(
            one_row(8, 2**32 - 2, b"000"),
            "claims the shape 1x4294967294, more than 2 GiB",
            marks=pytest.mark.user_input("file", "TIFF that claims 4 GB", "one line, without the memory"),
        ),
        (b"II*\0\xff\xff\xff\xff", "is damaged"),
        (b"II*\0", "is damaged"),
        (tiff_bytes(np.zeros((20, 30, 17), np.uint8)), "has the shape 20x30x17"),
    ],
)
def test_other_files_are_bad(data, reason):
    with pytest.raises(BadImageError, match=reason):
        read_array(data, ".tif")
