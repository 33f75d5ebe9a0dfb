"""Images as they are stored in archives: reduced to a short side, as JPEG or as raw pixels."""

import io
import posixpath
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cim_lightning.checks import check_at_least, check_one_of, check_within
from cim_lightning.data.pixel_format import JPEG, PixelFormat, Pixels
from cim_lightning.data.resampling import image_size, resize
from cim_lightning.data.sniff import HEAD, sniff
from cim_lightning.errors import ConfigError

JPEG_FORMAT, RAW_FORMAT = "jpeg", "raw"
SUBSAMPLING = {"4:4:4": 0, "4:2:0": 2}  # Pillow's numbers
JPEG_CHANNELS = (1, 3)


class StoredImage(NamedTuple):
    """An image as a file of an archive."""

    data: bytes
    suffix: str  # such as ".jpg"


@dataclass(frozen=True)
class StoredFormat:
    """How images are stored.

    An image whose short side is above `short_side` is reduced (bicubic, antialiased) and encoded. Other
    images keep their pixels: they are copied, or stored without loss if the source has no files.

    Raises:
        ConfigError: a parameter is out of range, or JPEG files cannot have these pixels.
    """

    pixels: PixelFormat
    short_side: int | None = 256  # in pixels; None: all images keep their size
    format: str = JPEG_FORMAT  # or RAW_FORMAT: all images are NPY files, which need no decoding
    quality: int = 90  # of JPEG, 1..100
    subsampling: str = "4:4:4"  # of the colors of JPEG; 4:2:0: half the resolution

    def __post_init__(self) -> None:
        check_at_least("short_side", self.short_side, 1)
        check_one_of("format", self.format, [JPEG_FORMAT, RAW_FORMAT])
        check_within("quality", self.quality, 1, 100)
        check_one_of("subsampling", self.subsampling, SUBSAMPLING)
        if self.format == JPEG_FORMAT and (
            self.pixels.bits != 8 or self.pixels.channels not in JPEG_CHANNELS
        ):
            rule = f"cannot have {self.pixels.channels} channels of {self.pixels.bits} bits"
            raise ConfigError("format", self.format, rule, suggest=RAW_FORMAT)

    def store(self, source: Any, index: int) -> tuple[StoredImage, int]:
        """Return image `index` of a Source as a file, and its label.

        Raises:
            BadImageError: the image cannot be decoded.
        """
        image, label = source[index]
        small = self._reduced(image)
        if self.format == RAW_FORMAT:
            return StoredImage(_npy(small), ".npy"), label
        if small is not image:
            return StoredImage(self._jpeg(small), ".jpg"), label
        if hasattr(source, "content"):
            data = source.content(index)
            return StoredImage(data, sniff(data[:HEAD])), label
        return StoredImage(_png(image), ".png"), label

    def _reduced(self, image: Pixels) -> Pixels:
        """Return the image with the short side of the format, or the image itself if it is not larger."""
        sides = image_size(image)
        if self.short_side is None or min(sides) <= self.short_side:
            return image
        width, height = (round(side * self.short_side / min(sides)) for side in sides)
        return resize(image, (width, height))

    def _jpeg(self, image: Pixels) -> bytes:
        file = io.BytesIO()
        options = {"quality": self.quality, "subsampling": SUBSAMPLING[self.subsampling]}
        _as_pillow(image).save(file, "JPEG", **options)
        return file.getvalue()


def file_name(name: str, suffix: str) -> str:
    """Return the name of a file in an archive for an image, such as "cat/1.jpg".

    The key of a WebDataset sample ends at the first dot of the file's name, so other dots become "_".
    A JPEG file keeps its suffix if the image is stored as JPEG. Another suffix becomes a part of the name.

    Args:
        name: of the image, relative to its split; with a suffix, or without one.
        suffix: of the stored image; "": unknown, as in a copy of a file without a suffix.
    """
    folder, slash, base = posixpath.normpath(name).lstrip("/").rpartition("/")
    stem, before = posixpath.splitext(base)
    both_jpeg = {before.lower(), suffix.lower()} <= {*JPEG}
    if before.lower() != suffix.lower() and not both_jpeg:
        stem += before
    suffix = before if both_jpeg else suffix
    return f"{folder}{slash}{stem.replace('.', '_')}{suffix}"


def _npy(image: Pixels) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(image), allow_pickle=False)
    return file.getvalue()


def _png(image: Pixels) -> bytes:
    file = io.BytesIO()
    _as_pillow(image).save(file, "PNG")
    return file.getvalue()


def _as_pillow(image: Pixels) -> Image.Image:
    """Return an image of 8 bits and one or three channels as Pillow's."""
    return (
        image
        if isinstance(image, Image.Image)
        else Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    )
