"""Decoding into any number of channels and bits, compared with pixel values computed by hand."""

import importlib
import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.format_check import check_first_images
from cim_lightning.data.pixel_format import RGB8, PixelFormat
from cim_lightning.errors import BadImageError, ConfigError, WrongFormatError
from tests.lookalikes import dicom_bytes, npy_bytes, tiff_bytes

GRAY = np.array([[0, 100, 255], [1, 2, 3]], np.uint8)
GRAY16 = np.array([[0, 257, 65535], [1, 40000, 514]], np.uint16)
# Red, green, blue; white, black, gray.
COLORS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [7, 7, 7]]], np.uint8
)
LUMA = [[76, 150, 29], [255, 0, 7]]  # 0.299 r + 0.587 g + 0.114 b, rounded
OPACITY = np.array([[0, 255, 128], [255, 0, 255]], np.uint8)
RGBA = np.dstack((COLORS, OPACITY))
BANDS = np.arange(2 * 3 * 8, dtype=np.uint16).reshape(2, 3, 8) * 1000
WIDE = np.arange(5 * 7 * 2, dtype=np.uint16).reshape(5, 7, 2) * 900
FLOATS = np.array([[0.0, 0.25, 1.0], [np.nan, -0.1, 1.2]], np.float32)


def image(array: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    opened = Image.fromarray(array)
    (opened if mode is None else opened.convert(mode)).save(file, kind, **options)
    return file.getvalue()


CASES = [
    pytest.param(
        image(GRAY),
        (1, 8),
        GRAY[..., None],
        id="gray",
        marks=pytest.mark.user_input("pixels", "8-bit gray PNG, data.channels=1", "read as it is"),
    ),
    pytest.param(
        image(COLORS),
        (1, 8),
        np.array(LUMA, np.uint8)[..., None],
        id="rgb to gray",
        marks=pytest.mark.user_input("pixels", "RGB PNG, data.channels=1", "luma (ITU-R BT.601)"),
    ),
    pytest.param(
        image(GRAY),
        (3, 16),
        np.repeat(GRAY[..., None].astype(np.uint16) * 257, 3, axis=2),
        id="gray to 16-bit rgb",
        marks=pytest.mark.user_input("pixels", "gray PNG in an RGB set", "repeated in each channel"),
    ),
    pytest.param(
        image(RGBA),
        (4, 8),
        RGBA,
        id="rgba",
        marks=pytest.mark.user_input("pixels", "RGBA PNG, data.channels=4", "opacity is the fourth channel"),
    ),
    pytest.param(
        image(RGBA),
        (1, 8),
        np.array([[255, 150, 142], [255, 255, 7]], np.uint8)[..., None],
        id="rgba to gray",
        marks=pytest.mark.user_input("pixels", "RGBA PNG, data.channels=1", "blended with white, then luma"),
    ),
    pytest.param(
        image(np.dstack((GRAY, OPACITY))),
        (2, 8),
        np.dstack((GRAY, OPACITY)),
        id="gray with opacity",
        marks=pytest.mark.user_input("pixels", "gray PNG with opacity, data.channels=2", "both channels"),
    ),
    pytest.param(
        image(GRAY16),
        (1, 16),
        GRAY16[..., None],
        id="16 bits",
        marks=pytest.mark.user_input(
            "pixels",
            "16-bit gray PNG, data.bits=16",
            "read without loss",
            source="https://github.com/pytorch/vision/issues/2218",
        ),
    ),
    pytest.param(
        image(GRAY),
        (1, 16),
        GRAY[..., None].astype(np.uint16) * 257,
        id="8 to 16 bits",
        marks=pytest.mark.user_input("pixels", "8-bit PNG in a 16-bit set", "values times 257"),
    ),
    pytest.param(
        image(GRAY16),
        (1, 8),
        np.array([[0, 1, 255], [0, 156, 2]], np.uint8)[..., None],
        id="16 to 8 bits",
        marks=pytest.mark.user_input(
            "pixels",
            "16-bit PNG in an 8-bit set",
            "values / 257, rounded",
            source="https://github.com/pytorch/pytorch/issues/20524",
        ),
    ),
    pytest.param(
        image(GRAY16),
        (1, 32),
        (GRAY16.astype(np.float64) / 65535)[..., None],
        id="16 bits to float",
        marks=pytest.mark.user_input("pixels", "16-bit depth PNG, data.bits=32", "floats in 0..1"),
    ),
    pytest.param(
        tiff_bytes(FLOATS),
        (1, 32),
        np.array([[0, 0.25, 1], [0, 0, 1]])[..., None],
        id="float",
        marks=pytest.mark.user_input(
            "pixels", "float TIFF with NaN and values outside 0..1", "NaN is 0, values are clipped"
        ),
    ),
    pytest.param(
        tiff_bytes(BANDS, photometric="minisblack", planarconfig="contig"),
        (8, 16),
        BANDS,
        id="8 bands",
        marks=pytest.mark.user_input(
            "pixels",
            "16-bit TIFF of 8 bands",
            "all bands without loss",
            source="https://github.com/open-mmlab/mmsegmentation/issues/667",
        ),
    ),
    pytest.param(
        tiff_bytes(COLORS.astype(np.uint16) * 257, photometric="rgb"),
        (3, 8),
        COLORS,
        id="16-bit rgb tiff",
        marks=pytest.mark.user_input(
            "pixels", "16-bit RGB TIFF in the default RGB set", "values / 257; Pillow cannot open it"
        ),
    ),
    pytest.param(
        imagecodecs.png_encode(RGBA.astype(np.uint16) * 257),
        (3, 16),
        np.array(  # opacity 0, 1 and 128 / 255
            [
                [[65535] * 3, [0, 65535, 0], [32639, 32639, 65535]],
                [[65535] * 3, [65535] * 3, [1799] * 3],
            ]
        ),
        id="16-bit rgba png",
        marks=pytest.mark.user_input(
            "pixels", "16-bit RGBA PNG, data.channels=3 data.bits=16", "16 bits, blended with white"
        ),
    ),
    pytest.param(
        npy_bytes(np.moveaxis(WIDE, 2, 0)),
        (2, 32),
        WIDE / 65535,
        id="npy",
        marks=pytest.mark.user_input("pixels", "NPY array, channels first", "channels last, floats in 0..1"),
    ),
    pytest.param(
        dicom_bytes(np.array([[0, 4095]], np.uint16)),
        (3, 8),
        np.array([[[0] * 3, [255] * 3]], np.uint8),
        id="dicom",
        marks=pytest.mark.user_input(
            "pixels", "12-bit DICOM in the default RGB set", "gray, 0..4095 to 0..255"
        ),
    ),
    pytest.param(
        npy_bytes(np.repeat(COLORS.astype(np.uint16)[:1] * 257, 4, axis=0)),
        (1, 16),
        np.array([[[19595], [38469], [7471]]] * 4),  # 0.299, 0.587 and 0.114 times 65535, rounded
        id="rgb array to gray",
    ),
    pytest.param(image(GRAY > 2, mode="1"), (1, 16), 65535 * (GRAY > 2)[..., None], id="bilevel"),
]


SUFFIXES = {b"\x89PNG": ".png", b"II*\0": ".tif", b"\x93NUM": ".npy", b"\0\0\0\0": ".dcm"}


@pytest.mark.parametrize("given", ["bytes", "file", "file without a suffix"])
@pytest.mark.parametrize(("data", "pixels", "expected"), CASES)
def test_values_follow_the_format(data, pixels, expected, given, tmp_path):
    path = tmp_path / ("image" + (SUFFIXES[data[:4]] if given == "file" else ""))
    path.write_bytes(data)
    found = PixelFormat(*pixels).decode(data if given == "bytes" else path)
    if pixels == (3, 8):
        found = np.asarray(found)  # an array or Pillow's image
    assert found.dtype == {8: np.uint8, 16: np.uint16, 32: np.float32}[pixels[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("data", "pixels", "reason"),
    [
        pytest.param(
            image(COLORS, "JPEG"),
            (4, 8),
            "has 3 channels, must have 4",
            id="too few",
            marks=pytest.mark.user_input(
                "pixels", "RGB JPEG, data.channels=4", "has 3 channels, must have 4"
            ),
        ),
        pytest.param(
            tiff_bytes(BANDS, photometric="minisblack", planarconfig="contig"),
            (3, 16),
            "has 8 channels, must have 3",
            id="too many",
            marks=pytest.mark.user_input(
                "pixels", "8-band TIFF, data.channels=3", "has 8 channels, must have 3"
            ),
        ),
        pytest.param(
            npy_bytes(np.float32([[-10, 8848], [4000, 900]])),
            (1, 32),
            "has values in -10..8848, must be in 0..1",
            id="heights",
            marks=pytest.mark.user_input(
                "pixels", "heights in meters as floats", "has values in -10..8848, must be in 0..1"
            ),
        ),
        pytest.param(
            npy_bytes(-np.ones((4, 5), np.int16)),
            (1, 16),
            "has values in -1..-1, must be in 0..32767",
            id="negative",
        ),
    ],
)
def test_an_image_of_another_format_is_an_error(data, pixels, reason, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(WrongFormatError) as caught:
        PixelFormat(*pixels).decode(path)
    assert str(caught.value) == f"{str(path)!r}: {reason}"
    with pytest.raises(WrongFormatError, match=f"^{len(data)} bytes: {reason}$"):
        PixelFormat(*pixels).decode(data)


@pytest.mark.parametrize("pixels", [RGB8, PixelFormat(1, 16)])
@pytest.mark.parametrize("name", ["lost.png", "lost.tif", "lost.npy", "lost"])
def test_a_missing_file_is_an_error_with_its_path(name, pixels, tmp_path):
    with pytest.raises(BadImageError, match=f"^'{tmp_path / name}': No such file or directory$"):
        pixels.decode(tmp_path / name)


def test_tiff_files_are_read_without_tifffile_if_pillow_can(monkeypatch):
    found = importlib.import_module
    missing = {"tifffile"}

    def import_module(name: str):
        if name in missing:
            raise ImportError(name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    data = image(GRAY16, "TIFF")
    assert ".tif" in PixelFormat(1, 16).suffixes
    assert np.array_equal(PixelFormat(1, 16).decode(data), GRAY16[..., None])
    with pytest.raises(BadImageError):
        PixelFormat(8, 16).decode(tiff_bytes(BANDS, photometric="minisblack", planarconfig="contig"))
    assert ".tif" not in PixelFormat(8, 16).suffixes


def test_suffixes_are_those_of_files_that_can_have_the_channels():
    assert {".jpg", ".png", ".tif", ".webp"} < {*RGB8.suffixes}
    assert not {".npy", ".dcm"} & {*RGB8.suffixes}  # arrays beside photographs are no images
    assert {".jpg", ".png", ".tif", ".npy", ".dcm"} < {*PixelFormat(1, 16).suffixes}
    assert ".png" in PixelFormat(4, 8).suffixes
    assert ".jpg" not in PixelFormat(4, 8).suffixes
    assert not {".jpg", ".png"} & {*PixelFormat(12, 16).suffixes}
    assert {".tif", ".npy"} < {*PixelFormat(12, 16).suffixes}


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        pytest.param(
            (0, 8),
            r"^channels=0: must be at least 1; try channels=1$",
            marks=pytest.mark.user_input("value", "data.channels=0", "refused: must be at least 1"),
        ),
        pytest.param(
            (3, 12),
            r"^bits=12: must be 8, 16 or 32; try bits=16$",
            marks=pytest.mark.user_input("value", "data.bits=12", "refused: try data.bits=16"),
        ),
    ],
)
def test_invalid_formats_are_refused(pixels, message):
    with pytest.raises(ConfigError, match=message):
        PixelFormat(*pixels)


class Decoded(list):
    """A source of images or errors."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if isinstance(item, Exception):
            raise item
        return item, 0


@pytest.mark.user_input("pixels", "a folder of RGB images, data.channels=4", "refused at the start: try 3")
def test_the_first_images_must_have_the_channels():
    def decode(data):
        try:
            return PixelFormat(4, 8).decode(data)
        except BadImageError as error:
            return error

    photo, drawing, damaged = image(COLORS), image(RGBA), b"damaged"
    message = r"^channels=4: \d+ bytes: has 3 channels, must have 4; try channels=3$"
    with pytest.raises(ConfigError, match=message):
        check_first_images(Decoded(map(decode, [damaged, *[photo] * 9])), PixelFormat(4, 8))
    check_first_images(Decoded(map(decode, [damaged, photo, drawing])), PixelFormat(4, 8))
    check_first_images(Decoded(map(decode, [damaged] * 9)), PixelFormat(4, 8))  # the data set reports them
    check_first_images(Decoded(), PixelFormat(4, 8))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Image.fromarray(GRAY), r"^channels=3: has 1 channel, must have 3; try channels=1$"),
        (np.zeros((4, 5, 3), np.float32), r"^bits=8: has pixels of type float32, .*"),
        (np.zeros((4, 5, 3), np.uint16), r"^bits=8: has pixels of type uint16, .*"),
    ],
)
def test_images_of_a_source_without_a_format_are_checked(found, message):
    with pytest.raises(ConfigError, match=message):
        check_first_images(Decoded([found]), RGB8)
    check_first_images(Decoded([np.zeros((4, 5, 3), np.uint8)]), RGB8)
