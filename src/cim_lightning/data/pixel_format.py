"""Format of the pixels of a data set: channels and bits, and the conversion of images to it."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cim_lightning.checks import check_at_least
from cim_lightning.data.array_files import ARRAY_SUFFIXES, array_kind, read_array
from cim_lightning.data.decode import bad_image_errors, decode, read_bytes, to_rgb
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.optional_packages import is_installed
from cim_lightning.errors import BadImageError, ConfigError

Pixels = Image.Image | np.ndarray  # an RGB image of 8 bits, else an array "h w c" of the format's dtype
DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
TORCH_DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
JPEG = (".jfif", ".jif", ".jpe", ".jpeg", ".jpg")
TIFF_MODULE = "tifffile"
DICOM_HEADER = 132  # bytes until the end of the signature, the last of all formats
FIRST_IMAGES = 8  # of a data set, of which one must have the right format


class WrongFormatError(BadImageError):
    """An intact image that cannot be converted to the format of the data set.

    Args:
        reason: of the error, without the name of the image.
        channels: of the image, if their number is the reason.
        name: of the image.
    """

    def __init__(self, reason: str, channels: int | None = None, name: str = ""):
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason, self.channels = reason, channels


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
        """Whether images are RGB images of Pillow instead of arrays."""
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
        kind = _array_kind(source)
        try:
            if kind is None or (ARRAY_SUFFIXES[kind] == TIFF_MODULE and not is_installed(TIFF_MODULE)):
                return self._decode_image(source)
            if not self.is_rgb8 or ARRAY_SUFFIXES[kind] != TIFF_MODULE:
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
            integer = np.issubdtype(image.dtype, np.integer)
            return self._convert_array(image, float(np.iinfo(image.dtype).max) if integer else 1.0)
        if self.is_rgb8:
            return to_rgb(image)
        return self._convert_array(*self._array(image))

    def check(self, image: Pixels) -> None:
        """Raise WrongFormatError if an image of a source does not have this format."""
        if isinstance(image, Image.Image):
            found, same = len(image.getbands()), self.is_rgb8 and image.mode == "RGB"
        else:
            found = image.shape[2] if image.ndim == 3 else 1
            same = not self.is_rgb8 and image.ndim == 3 and image.dtype == DTYPES[self.bits]
        if found != self.channels:
            raise self._wrong_channels(found)
        if not same:
            kind = image.mode if isinstance(image, Image.Image) else image.dtype
            raise WrongFormatError(f"has pixels of type {kind}, expected {self.bits} bits")

    def _decode_image(self, source: str | os.PathLike[str] | bytes) -> Pixels:
        return decode(source) if self.is_rgb8 else self._convert_array(*decode(source, self._array))

    def _read_array(self, source: str | os.PathLike[str] | bytes, kind: str) -> Pixels:
        with bad_image_errors(source):
            array, white = read_array(read_bytes(source), kind)
        return self._convert_array(array, white)

    def _array(self, image: Image.Image) -> tuple[np.ndarray, float]:
        """Return the pixels of a Pillow image and their largest value."""
        if image.mode.startswith("I;16") and self.bits > 8:
            return np.asarray(image), 65535.0
        if image.mode in ("I", "F") and self.bits > 8:
            return np.asarray(image), 1.0 if image.mode == "F" else 65535.0
        if image.has_transparency_data and self.channels == 4:
            return np.asarray(image.convert("RGBA")), 255.0
        if image.has_transparency_data and self.channels == 2 and image.mode in ("LA", "La", "PA"):
            return np.asarray(image.convert("LA")), 255.0
        gray = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;")
        rgb = to_rgb(image)
        return np.asarray(rgb.convert("L") if gray or self.channels == 1 else rgb), 255.0

    def _convert_array(self, array: np.ndarray, scale: float) -> Pixels:
        """Convert an array whose value `scale` is white."""
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3:
            raise WrongFormatError(f"has {array.ndim} dimensions, must have rows, columns and channels")
        found = array.shape[2]
        if (found, self.channels) == (1, 3):
            array = np.repeat(array, 3, axis=2)
        elif (found, self.channels) == (3, 1):
            array = array.astype(np.float32) @ np.array(LUMA, np.float32)[:, None]
        elif found != self.channels:
            raise self._wrong_channels(found)
        pixels = _rescale(array, scale, np.dtype(DTYPES[self.bits]))
        return Image.fromarray(pixels) if self.is_rgb8 else pixels

    def _wrong_channels(self, found: int) -> WrongFormatError:
        reason = f"has {found} channel{'s' if found != 1 else ''}, must have {self.channels}"
        return WrongFormatError(reason, found)


RGB8 = PixelFormat()


def check_first_images(source: Any, pixels: PixelFormat) -> None:
    """Check the format of an image of a source before training, if one of the first images is intact.

    Raises:
        ConfigError: none of the first images can be converted to the format.
    """
    errors = []
    for index in range(min(len(source), FIRST_IMAGES)):
        try:
            return pixels.check(source[index][0])
        except WrongFormatError as error:
            errors.append(error)
        except BadImageError:  # a damaged image; the data set skips it
            pass
    if errors:
        found = errors[0].channels
        if found is None:
            raise ConfigError("bits", pixels.bits, str(errors[0]), hint="scale or convert the files")
        raise ConfigError("channels", pixels.channels, str(errors[0]), suggest=found)


def _rescale(array: np.ndarray, scale: float, dtype: np.dtype) -> np.ndarray:
    """Return values of another type; `scale` becomes the largest value of the type, or 1 for floats."""
    largest = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    if array.dtype == dtype and scale == largest and dtype.kind != "f":
        return np.ascontiguousarray(array)
    values = array.astype(np.float32)
    values *= np.float32(largest / scale)
    finite = np.isfinite(values)
    values[~finite] = 0
    outside = np.count_nonzero((values < 0) | (values > largest))
    if outside > np.count_nonzero(finite) / 2:
        low, high = (value * scale / largest for value in (values.min(), values.max()))
        raise WrongFormatError(f"has values in {low:g}..{high:g}, must be in 0..{scale:g}")
    values.clip(0, largest, out=values)
    return values if dtype.kind == "f" else np.rint(values, out=values).astype(dtype)


def _array_kind(source: str | os.PathLike[str] | bytes) -> str | None:
    """Return the suffix of a file of arrays, from its name or its first bytes; None for other files."""
    if isinstance(source, bytes):
        return array_kind(source)
    suffix = os.path.splitext(os.fspath(source))[1].lower()
    if suffix:
        return suffix if suffix in ARRAY_SUFFIXES else None
    with bad_image_errors(source), open(source, "rb") as file:
        return array_kind(file.read(DICOM_HEADER))


def _name(source: str | os.PathLike[str] | bytes) -> str:
    """Return the name of a source for messages; repr, because a path may have a line break."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else repr(os.fspath(source))
