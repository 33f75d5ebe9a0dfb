"""Order of the axes, orientation and range of the values of images that are arrays."""

import numpy as np
from jaxtyping import Shaped

from cim_lightning.errors import BadImageError

MAX_CHANNELS = 16  # a longer axis has rows, columns, slices or frames
MAX_BYTES = 2**31  # of a decoded image; a file may claim any size

ORIENTATION = 274  # tag of TIFF and EXIF
# Orientation -> whether rows and columns are swapped, then the axes to flip
UPRIGHT = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


def channels_last(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "h w c"]:
    """Return a view "h w c" of an array "h w", "h w c" or "c h w".

    The channels are the shorter one of the first and the last axis; the last one if both are equal.

    Raises:
        BadImageError: the array has another number of axes, or more than 16 channels.
    """
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim != 3:
        raise BadImageError(f"has the shape {shape_text(array.shape)}; must be rows x columns, with channels")
    channels_first = array.shape[0] < array.shape[2]
    image = np.moveaxis(array, 0, 2) if channels_first else array
    if image.shape[2] > MAX_CHANNELS:
        rule = f"the channels must be the first or last axis, at most {MAX_CHANNELS}"
        raise BadImageError(f"has the shape {shape_text(array.shape)}; {rule}")
    return image


def upright(pixels: Shaped[np.ndarray, "h w c"], orientation: int) -> Shaped[np.ndarray, "h2 w2 c"]:
    """Return pixels with an EXIF orientation applied; unknown orientations are ignored."""
    swap, flipped = UPRIGHT.get(orientation, (False, ()))
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    return np.flip(pixels, flipped) if flipped else pixels


def white_value(pixels: Shaped[np.ndarray, "..."]) -> float:
    """Return the value that maps to 1.0.

    * Floats and booleans: 1.
    * Integers of 8 and 16 bits: the largest value of the type, such as 65535.
    * Wider integers: 65535 if no value is larger, otherwise the largest value of the type.

    Raises:
        BadImageError: the values are not real numbers.
    """
    dtype = pixels.dtype
    if dtype.kind in "fb":
        return 1.0
    if dtype.kind not in "iu":
        raise BadImageError(f"has values of type {dtype}; must be numbers")
    if dtype.itemsize > 2 and (not pixels.size or pixels.max() <= 65535):
        return 65535.0
    return float(np.iinfo(dtype).max)


def check_bytes(shape: tuple[int, ...], itemsize: int) -> None:
    """Require that an image of this shape fits into the memory of a worker.

    Raises:
        BadImageError: it needs more than 2 GiB.
    """
    if np.prod([float(n) for n in shape]) * itemsize > MAX_BYTES:
        raise BadImageError(f"claims the shape {shape_text(shape)}, more than {MAX_BYTES >> 30} GiB")


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as in "8x512x512"."""
    return "x".join(map(str, shape)) or "of a single number"
