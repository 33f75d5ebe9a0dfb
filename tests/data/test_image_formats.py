"""Formats that Pillow decodes by itself or by plugins, and the suffixes of each."""

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.errors import BadImageError

# Smooth, so that lossy formats keep it: red grows to the right, green downwards
RAMP = np.stack(np.broadcast_arrays(np.arange(40) * 6, np.arange(32)[:, None] * 7, 99), axis=-1).astype(
    np.uint8
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def heic(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(RAMP)).save(file, quality=95, exif=exif.tobytes(), chroma=444)
    return file.getvalue()


def jxl(orientation: int = 1) -> bytes:
    import pillow_jxl  # noqa: F401 -- adds the format to Pillow

    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RAMP), "JXL", lossless=True, exif=exif.tobytes())


def avif(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RAMP), "AVIF", quality=95, subsampling="4:4:4", exif=exif)


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(
            avif(), 6, marks=pytest.mark.user_input("file", "AVIF", "decoded by Pillow itself"), id="AVIF"
        ),
        pytest.param(
            heic(),
            6,
            marks=pytest.mark.user_input(
                "file",
                "HEIC of a phone",
                "decoded, if pillow-heif is installed",
                source="https://github.com/replicate/dreambooth/issues/23",
            ),
            id="HEIC",
        ),
        pytest.param(
            jxl(),
            0,
            marks=pytest.mark.user_input("file", "JPEG XL", "decoded, if pillow-jxl-plugin is installed"),
            id="JPEG XL",
        ),
    ],
)
def test_modern_formats_are_decoded(data, tolerance):
    image = decode(data)
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).astype(int), RAMP.astype(int), atol=tolerance)


@pytest.mark.parametrize("write", [avif, heic, jxl])
def test_turned_images_are_upright(write):
    np.testing.assert_allclose(
        np.asarray(decode(write(6))).astype(int), np.rot90(RAMP, -1).astype(int), atol=6
    )


@pytest.mark.parametrize(
    ("module", "write", "suffix", "package"),
    [
        pytest.param(
            "pillow_heif",
            heic,
            ".heic",
            "pillow-heif",
            marks=pytest.mark.user_input(
                "file", "HEIC without pillow-heif", "one line: pip install pillow-heif"
            ),
        ),
        ("pillow_jxl", jxl, ".jxl", "pillow-jxl-plugin"),
    ],
)
def test_a_missing_plugin_is_one_line(module, write, suffix, package, monkeypatch):
    data = write()
    assert decodable_suffixes()[suffix] is None
    monkeypatch.setitem(sys.modules, module, None)
    assert decodable_suffixes()[suffix] == f"pip install {package}"
    with pytest.raises(BadImageError, match=rf"^\d+ bytes: .* files need a plugin: pip install {package}$"):
        decode(data)


def test_a_container_of_unknown_content_is_tried_as_avif_and_heic(monkeypatch):
    data = heic()
    data = data[:8] + b"mif1" + data[12:]
    assert decode(data).size == (40, 32)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImageError, match="not an image"):
        decode(data)


@pytest.mark.user_input("file", "JPEG of a phone with a second picture (MPO)", "the first picture is decoded")
def test_the_first_picture_of_an_mpo_is_decoded():
    second = Image.new("RGB", (40, 32))
    data = encoded(
        Image.fromarray(RAMP), "MPO", quality=95, subsampling=0, save_all=True, append_images=[second]
    )
    assert data.startswith(b"\xff\xd8")
    np.testing.assert_allclose(np.asarray(decode(data)).astype(int), RAMP.astype(int), atol=8)


@pytest.mark.parametrize("default_image", [True, False])
@pytest.mark.user_input("file", "animated PNG", "the image that programs without animations show")
def test_the_first_frame_of_an_apng_is_decoded(default_image):
    second = Image.new("RGB", (40, 32))
    options = {"save_all": True, "append_images": [second], "default_image": default_image}
    np.testing.assert_array_equal(np.asarray(decode(encoded(Image.fromarray(RAMP), "PNG", **options))), RAMP)


@pytest.mark.user_input("file", "JPEG named `.png`", "decoded by its content")
def test_the_content_decides_not_the_name(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RAMP), "JPEG", quality=95, subsampling=0))
    np.testing.assert_allclose(np.asarray(decode(path)).astype(int), RAMP.astype(int), atol=8)


def test_every_suffix_of_pillows_formats_is_known():
    known = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in ("JPEG", "WEBP", "GIF", "TIFF")
    }
    assert known <= decodable_suffixes().keys()
