"""Decode ordinary JPEG photographs by libjpeg-turbo, without the copies that Pillow makes."""

import io
import warnings

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import ExifTags, Image

JPEG_SIGNATURE = b"\xff\xd8\xff"
MODES = ("RGB", "L")  # of Pillow; CMYK is inverted in some files
UPRIGHT = 1  # of EXIF


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    """Return the RGB pixels of a JPEG file, equal to Pillow's.

    Pillow reads the header. It must decode all that is not ordinary: other formats, CMYK, rotated and damaged
    files, and those of several pictures.

    Returns:
        Pixels; None: Pillow must decode the file. Its error, if there is one, is the one to report.
    """
    if not data.startswith(JPEG_SIGNATURE):
        return None
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=("JPEG",)) as image,
        ):
            is_upright = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT
            if image.format != "JPEG" or image.mode not in MODES or not is_upright:
                return None
        # "strict" raises an error where libjpeg only warns, such as at a missing end.
        pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except Exception:  # of any kind: damaged files cause nearly any exception in Pillow
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None
