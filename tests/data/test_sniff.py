"""Formats by content. The oracle is what Pillow and NumPy write."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.sniff import HEAD, sniff

PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}


@pytest.mark.parametrize(
    ("written", "suffix"),
    [
        ("JPEG", ".jpg"),
        ("PNG", ".png"),
        ("GIF", ".gif"),
        ("BMP", ".bmp"),
        ("TIFF", ".tif"),
        ("WEBP", ".webp"),
        ("AVIF", ".avif"),
        ("HEIF", ".heic"),
        ("JXL", ".jxl"),
        ("PPM", ""),
    ],
)
def test_images_of_pillow(written, suffix):
    if written in PLUGINS:
        module = importlib.import_module(PLUGINS[written])
        getattr(module, "register_heif_opener", lambda: None)()
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, written)
    assert sniff(buffer.getvalue()[:HEAD]) == suffix


def test_arrays_of_numpy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3)))
    assert sniff(buffer.getvalue()[:HEAD]) == ".npy"


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"", ""),
        (b"BM", ""),
        (b"BM was founded in 1911 by a merger of four companies", ""),
        (b"RIFF\x24\0\0\0WAVEfmt ", ""),
        (b"<html><body>404</body></html>", ""),
        (b"MM\0\x2b\0\x08\0\0", ".tif"),  # BigTIFF
        (b"\0" * 128 + b"DICM\x02\0\0\0", ".dcm"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", ""),  # a video
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", ".avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", ".heic"),
        (b"\0\0\0\x10ftypisom\0\0\0\0avif", ""),  # behind the list of brands
    ],
)
def test_other_signatures(head, suffix):
    assert sniff(head) == suffix
