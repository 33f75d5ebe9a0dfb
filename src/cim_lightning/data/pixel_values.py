"""Conversion of pixel values: of Pillow's images to arrays, to other channels, and to other types."""

import numpy as np
from PIL import Image

from cim_lightning.data.decode import to_rgb
from cim_lightning.errors import WrongFormatError

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


def values_of(image: Image.Image, channels: int, wide: bool) -> tuple[np.ndarray, float]:
    """Return the pixels "h w" or "h w c" of a Pillow image, and the value of white.

    Args:
        channels: of the data set. Opacity is a channel if they are 4, or 2 for gray images. Otherwise,
            transparent pixels are blended with white.
        wide: keep more than 8 bits, if the image has them.
    """
    if wide and (image.mode in ("I", "F") or image.mode.startswith("I;16")):
        return np.asarray(image), 1.0 if image.mode == "F" else 65535.0
    if image.has_transparency_data and channels == 4:
        return np.asarray(image.convert("RGBA")), 255.0
    if image.has_transparency_data and channels == 2 and image.mode in ("LA", "La", "PA"):
        return np.asarray(image.convert("LA")), 255.0
    gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F"))
    rgb = to_rgb(image)
    return np.asarray(rgb.convert("L") if gray or channels == 1 else rgb), 255.0


def match_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Return pixels "h w c" of a number of channels: gray is repeated for RGB, and RGB becomes luma for gray.

    Raises:
        WrongFormatError: the array has another number of channels.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise WrongFormatError(f"has {array.ndim} dimensions, must have rows, columns and channels")
    found = array.shape[2]
    if (found, channels) == (1, 3):
        return np.repeat(array, 3, axis=2)
    if (found, channels) == (3, 1):
        return array.astype(np.float32) @ LUMA[:, None]
    if found != channels:
        raise wrong_channels(found, channels)
    return array


def blend_with_white(array: np.ndarray, white: float) -> np.ndarray:
    """Return the colors "h w c" of pixels whose last channel is the opacity, on a white ground."""
    colors, opacity = array[..., :-1].astype(np.float32), array[..., -1:] / np.float32(white)
    return colors * opacity + white * (1 - opacity)


def wrong_channels(found: int, expected: int) -> WrongFormatError:
    """Return the error about an image with another number of channels."""
    reason = f"has {found} channel{'s' if found != 1 else ''}, must have {expected}"
    return WrongFormatError(reason, found)


def rescale(array: np.ndarray, white: float, dtype: np.dtype) -> np.ndarray:
    """Return values of another type; `white` becomes the largest value of the type, or 1 for floats.

    NaN and infinities become 0. Values outside of 0..white are clipped.

    Raises:
        WrongFormatError: more than half of the values are outside.
    """
    largest = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    if array.dtype == dtype and white == largest and dtype.kind != "f":
        return np.ascontiguousarray(array)
    values = array.astype(np.float32)
    values *= np.float32(largest / white)
    finite = np.isfinite(values)
    values[~finite] = 0
    outside = np.count_nonzero((values < 0) | (values > largest))
    if outside > np.count_nonzero(finite) / 2:
        low, high = (value * white / largest for value in (values.min(), values.max()))
        raise WrongFormatError(f"has values in {low:g}..{high:g}, must be in 0..{white:g}")
    values.clip(0, largest, out=values)
    return values if dtype.kind == "f" else np.rint(values, out=values).astype(dtype)
