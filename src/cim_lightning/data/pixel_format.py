"""Format of the pixels of a data set: channels and bits, and the conversion of images to it."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from cim_lightning.checks import check_at_least
from cim_lightning.data.array_files import ARRAY_SUFFIXES, PNG, array_kind, read_array
from cim_lightning.data.array_layout import white_value
from cim_lightning.data.decode import bad_image_errors, decode, open_file, read_bytes, to_rgb
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.optional_packages import is_installed
from cim_lightning.data.pixel_values import (
    blend_with_white,
    match_channels,
    rescale,
    values_of,
    wrong_channels,
)
from cim_lightning.data.sniff import SUFFIX
from cim_lightning.errors import BadImageError, ConfigError, WrongFormatError

# An array "h w c" of the format's dtype. RGB images of 8 bits may be Pillow's images instead.
Pixels = Image.Image | np.ndarray
DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
TORCH_DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}
JPEG = (".jfif", ".jif", ".jpe", ".jpeg", ".jpg")
TIFF_MODULE = "tifffile"
DICOM_HEADER = 132  # bytes until the end of the signature, the last of all formats


@dataclass(frozen=True)
class PixelFormat:
    """Channels and bits of all images of a data set.

    Conversions, if a file differs:
    * Gray is repeated for 3 channels, and RGB becomes luma for 1 channel. Transparent pixels are blended with
      white, unless the format has a channel for the opacity: 4 channels, or 2 for gray.
    * Values are scaled by the ratio of the largest values: 8 to 16 bits by 257, 8 bits to floats by 1 / 255.
      The largest value of floats is 1. Values below 0 or above the largest value are clipped, as long as they
      are no more than half of an image. NaN and infinities become 0.
    * Other images, such as those with another number of channels, raise WrongFormatError.

    Raises:
        ConfigError: a parameter is out of range.
    """

    channels: int = 3
    bits: int = 8  # 8: 0..255, 16: 0..65535, 32: floats in 0..1

    def __post_init__(self) -> None:
        check_at_least("channels", self.channels, 1)
        if self.bits not in DTYPES:
            enough = min((bits for bits in DTYPES if bits > self.bits), default=max(DTYPES))
            raise ConfigError("bits", self.bits, "must be 8, 16 or 32", suggest=enough)

    @property
    def is_rgb8(self) -> bool:
        """Whether images are RGB images of 8 bits, which may be Pillow's."""
        return (self.channels, self.bits) == (3, 8)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type of the views in a batch."""
        return TORCH_DTYPES[self.bits]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that can have this format, as far as the packages for them are installed."""
        images = {suffix for suffix, missing in decodable_suffixes().items() if not missing}
        if self.channels in (2, 4):
            images.difference_update(JPEG)  # no opacity
        if self.channels > 4:
            images.clear()
        # A folder of photographs may have other arrays beside them, such as features.
        if self.is_rgb8:
            return tuple(sorted(images))
        installed = {
            suffix for suffix, module in ARRAY_SUFFIXES.items() if not module or is_installed(module)
        }
        return tuple(sorted(images | installed))

    def decode(self, source: str | os.PathLike[str] | bytes) -> Pixels:
        """Decode a file, or its bytes, to an upright image of this format.

        Raises:
            WrongFormatError: see the class.
            BadImageError: the file is missing or damaged. Both are one line with the path and the reason.
        """
        kind = _array_kind(source, wide=self.bits > 8)
        module = ARRAY_SUFFIXES.get(kind or "")
        try:
            if kind is None or (module == TIFF_MODULE and not is_installed(TIFF_MODULE)):
                return self._decode_image(source)
            if not self.is_rgb8 or module != TIFF_MODULE:
                return self._read_array(source, kind)
            try:
                return self._decode_image(source)
            except WrongFormatError:
                raise
            except BadImageError:  # a TIFF that Pillow does not read, such as 16-bit RGB
                return self._read_array(source, kind)
        except WrongFormatError as error:
            raise WrongFormatError(error.reason, error.channels, _name(source)) from error

    def convert(self, image: Image.Image | np.ndarray) -> Pixels:
        """Convert a decoded image, or an array "h w" or "h w c" of any type, to this format.

        Raises:
            WrongFormatError: see the class.
        """
        if isinstance(image, np.ndarray):
            return (
                image
                if is_rgb8_array(image) and self.is_rgb8
                else self._convert_array(image, white_value(image))
            )
        if self.is_rgb8:
            return to_rgb(image)
        return self._convert_array(*self._values(image))

    def check(self, image: Pixels) -> None:
        """Raise WrongFormatError if an image of a source does not have this format."""
        if isinstance(image, Image.Image):
            found, same = len(image.getbands()), self.is_rgb8 and image.mode == "RGB"
        else:
            found = image.shape[2] if image.ndim == 3 else 1
            same = image.ndim == 3 and image.dtype == DTYPES[self.bits]
        if found != self.channels:
            raise wrong_channels(found, self.channels)
        if not same:
            kind = image.mode if isinstance(image, Image.Image) else image.dtype
            raise WrongFormatError(f"has pixels of type {kind}, expected {self.bits} bits")

    def _decode_image(self, source: str | os.PathLike[str] | bytes) -> Pixels:
        return (
            decode(source, arrays=True)
            if self.is_rgb8
            else self._convert_array(*decode(source, self._values))
        )

    def _values(self, image: Image.Image) -> tuple[np.ndarray, float]:
        return values_of(image, self.channels, wide=self.bits > 8)

    def _read_array(self, source: str | os.PathLike[str] | bytes, kind: str) -> Pixels:
        with bad_image_errors(source):
            array, white = read_array(read_bytes(source), kind)
        if kind == PNG and array.shape[2] in (2, 4) and array.shape[2] != self.channels:
            array = blend_with_white(array, white)
        return self._convert_array(array, white)

    def _convert_array(self, array: np.ndarray, white: float) -> Pixels:
        return rescale(match_channels(array, self.channels), white, np.dtype(DTYPES[self.bits]))


RGB8 = PixelFormat()


def is_rgb8_array(image: Pixels) -> bool:
    """Return whether an image is an array of RGB pixels of 8 bits."""
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,)


def _array_kind(source: str | os.PathLike[str] | bytes, wide: bool) -> str | None:
    """Return the suffix of a file of arrays, from its name or its first bytes; None for other files.

    Args:
        wide: keep the 16 bits of a PNG of colors, of which Pillow reads 8.
    """
    suffix = "" if isinstance(source, bytes) else os.path.splitext(os.fspath(source))[1].lower()
    if SUFFIX.fullmatch(suffix) and not (wide and suffix == PNG):
        return suffix if suffix in ARRAY_SUFFIXES else None
    if isinstance(source, bytes):
        kind = array_kind(source)
    else:
        with bad_image_errors(source), open_file(source) as file:
            kind = array_kind(file.read(DICOM_HEADER))
    return None if kind == PNG and not wide else kind


def _name(source: str | os.PathLike[str] | bytes) -> str:
    """Return the name of a source for messages; repr, because a path may have a line break."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else repr(os.fspath(source))
