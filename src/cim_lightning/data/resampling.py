"""Size, resizing and flipping of images: Pillow's RGB images, and arrays of any format.

Arrays are resized by Pillow, too, one channel at a time in fp32. So both kinds have the same crops, which may
have fractions of pixels, and the same values up to rounding.
"""

import numpy as np
from PIL import Image

from cim_lightning.data.pixel_format import Pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def image_size(image: Pixels) -> tuple[int, int]:
    """Return width and height in pixels."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def resize(image: Pixels, size: tuple[int, int], box: Box | None = None) -> Pixels:
    """Resize a box of an image, bicubic and antialiased.

    Args:
        size: width and height in pixels.
        box: None: the whole image.
    """
    if isinstance(image, Image.Image):
        return image.resize(size, Image.Resampling.BICUBIC, box=box)
    planes = (Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(image.shape[2]))
    resized = (np.asarray(plane.resize(size, Image.Resampling.BICUBIC, box=box)) for plane in planes)
    pixels = np.stack([*resized], axis=2)
    if image.dtype.kind == "f":
        return pixels.clip(0, 1)
    return np.rint(pixels).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def crop(image: Pixels, left: int, top: int, size: int) -> Pixels:
    """Return a square of an image, which lies inside it."""
    if isinstance(image, Image.Image):
        return image.crop((left, top, left + size, top + size))
    return image[top : top + size, left : left + size]


def flip(image: Pixels) -> Pixels:
    """Flip an image horizontally."""
    if isinstance(image, Image.Image):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image[:, ::-1]
