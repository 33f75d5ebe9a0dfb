"""Decode photographs and drawings to upright RGB images: the formats of Pillow and of two plugins."""

import contextlib
import errno
import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cim_lightning.data.foreign_content import describe_content
from cim_lightning.data.image_formats import FORMATS, pillow_formats
from cim_lightning.data.jpeg import decode_jpeg
from cim_lightning.data.png_metadata import without_metadata
from cim_lightning.errors import BadImageError, ConfigError, LoadingError

NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # of POSIX, and of Windows
# Pillow logs an error for each TIFF of many bands, and raises it, too.
logging.getLogger(TiffImagePlugin.__name__).setLevel(logging.CRITICAL)


def decode(
    source: str | os.PathLike[str] | bytes,
    convert: Callable[[Image.Image], Any] | None = None,
    arrays: bool = False,
) -> Any:
    """Decode a file, or its bytes, to an upright image, and convert it: to an RGB image by default.

    Args:
        source: path or content of the file.
        convert: of Pillow's image.
        arrays: return RGB pixels "h w 3" of ordinary JPEG files, which is faster than Pillow's image of the
            same pixels. They are not converted.

    Rules:

    * The format follows from the first bytes, not from the name.
    * EXIF orientation is applied. Only the first frame of an animation, or the first page, is decoded.
    * Transparent pixels are blended with white. Their stored color is arbitrary, and black line drawings
      would be invisible on black. Exception: a single transparent color in a PNG of 2, 4 or 16 bits becomes
      opaque.
    * 16-bit gray is scaled (`value / 257`), not clipped. For wider pixels, see `_to_8_bits`.
    * ICC profiles are ignored: applying them costs more than decoding. CMYK is converted by Pillow's formula,
      after undoing Adobe's inversion.
    * A PNG whose text, ICC profile or other metadata are damaged or too large is decoded without them, as in
      browsers.

    Pillow's warnings are silenced process-wide during the call, so use worker processes, not threads.

    Raises:
        BadImageError: one line with path and reason, for files that are missing, empty, truncated, not an
            image, or above Pillow's limit for decompression bombs (179 million pixels). Some damaged JPEG
            files are decoded without an error, as by all programs that use libjpeg.
    """
    with bad_image_errors(source):
        data = read_bytes(source)
        if arrays and (pixels := decode_jpeg(data)) is not None:
            return pixels
        try:
            return _decode(data, convert or to_rgb)
        except Exception as error:
            pixels_only = without_metadata(data)
            if pixels_only == data:
                if isinstance(error, UnidentifiedImageError) and (content := describe_content(data)):
                    raise BadImageError(f"not an image, but {content}") from error
                raise
        return _decode(pixels_only, convert or to_rgb)


def read_bytes(source: str | os.PathLike[str] | bytes) -> bytes:
    """Return the content of a file; bytes are returned as they are.

    Raises:
        BadImageError: the file is empty, or not a regular file.
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        data = source
    else:
        with open_file(source) as file:
            data = file.read()
    if not data:
        raise BadImageError("the file is empty")
    return data


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading. Opening a named pipe would wait for a writer.

    Raises:
        BadImageError: it is not a regular file, but a named pipe, a device or a socket.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadImageError("not a regular file")
    return open(descriptor, "rb")


@contextlib.contextmanager
def bad_image_errors(source: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Raise errors of the block as BadImageErrors, one line with path and reason; ConfigErrors unchanged.

    Raises:
        LoadingError: this process may not open more files. The image itself may be intact.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # damaged files cause nearly any exception in Pillow, even struct.error
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            rule = "too many open files: this process cannot open an image"
            raise LoadingError(
                "num_workers", rule=rule, hint="try fewer workers, or ulimit -n 65536"
            ) from error
        # repr, because a line break in a path would break the one-line message
        name = f"{len(source)} bytes" if isinstance(source, bytes) else repr(os.fspath(source))
        raise BadImageError(_reason(error), name) from error


def _decode(data: bytes, convert: Callable[[Image.Image], Any]) -> Any:
    formats = pillow_formats(data)
    # Pillow warns about odd metadata and large sizes; neither means that the pixels are bad.
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=formats) as image:
        image.load()  # first, as a PNG may have its EXIF after the pixels
        with contextlib.suppress(Exception):  # unreadable EXIF is common, and the pixels are good
            ImageOps.exif_transpose(image, in_place=True)
        return convert(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB, blended with white; see `decode`."""
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        blended = Image.new("RGBA", image.size, "white")
        blended.alpha_composite(image.convert("RGBA"))
        image = blended
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale gray of more than 8 bits to mode "L".

    * 12-bit pixels: 0..4095 -> 0..255.
    * 16-bit pixels, and 32-bit integers whose values are in 0..65535: 0..65535 -> 0..255.
    * Floats: the first range of 0..1, 0..255 and 0..65535 that contains all values -> 0..255.
    * All other pixels, such as heights: lowest value -> 0, highest value -> 255.

    NaN and infinities become 0.
    """
    pixels = np.asarray(image).astype(np.float64)
    finite = np.isfinite(pixels)
    values = pixels[finite]
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE)
    for maximum in (1.0, 255.0, 65535.0) if image.mode == "F" else (4095.0 if bits == (12,) else 65535.0,):
        if low >= 0 and high <= maximum:
            low, high = 0.0, maximum
            break
    gray = np.zeros(pixels.shape, np.uint8)
    if high > low:
        gray[finite] = np.rint((values - low) * (255 / (high - low)))
    return Image.fromarray(gray)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its message has the name of a BytesIO object
        return f"not an image, or its header is damaged (supported: {', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged ({text})" if text == "could not create decoder object" else text  # of libwebp
