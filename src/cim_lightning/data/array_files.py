"""Read images of any number of channels and bits: NPY, multi-band TIFF, DICOM and 16-bit color PNG files."""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from cim_lightning.data import array_layout, dicom_files, tiff_files
from cim_lightning.data.optional_packages import require
from cim_lightning.data.png_metadata import PNG_SIGNATURE, without_metadata
from cim_lightning.errors import BadImageError

NPY, TIFF, DICOM, PNG = ".npy", ".tif", ".dcm", ".png"
# Suffix -> module that reads it, from the extra "scientific"; None: numpy alone.
ARRAY_SUFFIXES = {
    NPY: None,
    **dict.fromkeys((TIFF, ".tiff"), "tifffile"),
    **dict.fromkeys((DICOM, ".dicom", ".ima"), "pydicom"),
}
DEEP_COLORS = (b"\x10\2", b"\x10\4", b"\x10\6")  # 16 bits of RGB, gray with opacity, RGB with opacity
ArrayAndWhite = tuple[Shaped[np.ndarray, "h w c"], float]


def read_array(data: bytes, suffix: str) -> ArrayAndWhite:
    """Read an image without loss.

    Args:
        data: content of the file. Its first bytes decide about the format.
        suffix: of the file's name, with the dot; needed only for DICOM files without the usual signature.

    Returns:
        The pixels "h w c" in the type of the file, but booleans as uint8 and gray DICOM as float32; and the
        value that maps to 1.0.

    Raises:
        BadImageError: the reason, without the file's name.
        ConfigError: a package is missing.
    """
    kind = array_kind(data, suffix)
    if kind is None:
        raise BadImageError("is neither an NPY, TIFF nor DICOM file")
    module = "imagecodecs" if kind == PNG else ARRAY_SUFFIXES[kind]
    if module is not None:
        require(module, "scientific", f"{kind} files")
    readers: dict[str, Callable[[bytes], ArrayAndWhite]]
    readers = {NPY: _read_npy, TIFF: tiff_files.read_tiff, DICOM: dicom_files.read_dicom, PNG: _read_png}
    try:
        pixels, white = readers[kind](data)
    except BadImageError:
        raise
    except Exception as error:  # damaged files cause nearly any exception
        raise BadImageError(f"is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error
    if 0 in pixels.shape:
        raise BadImageError(f"has the shape {array_layout.shape_text(pixels.shape)}; it has no pixel")
    pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False), white


def array_kind(data: bytes, suffix: str = "") -> str | None:
    """Return ".npy", ".tif", ".dcm" or ".png" by the first bytes of a file; None for other formats.

    Only PNG files of 16-bit colors are ".png": Pillow reads all others without loss.
    """
    if data.startswith(b"\x93NUMPY"):
        return NPY
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):  # the last two are BigTIFF
        return TIFF
    if data.startswith(PNG_SIGNATURE) and data[24:26] in DEEP_COLORS:
        return PNG
    if data[128:132] == b"DICM" or ARRAY_SUFFIXES.get(suffix.lower()) == "pydicom":
        return DICOM
    return None


def _read_npy(data: bytes) -> ArrayAndWhite:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    pixels = array_layout.channels_last(array)
    return pixels, array_layout.white_value(pixels)


def _read_png(data: bytes) -> ArrayAndWhite:
    import imagecodecs

    data = without_metadata(data)  # Pillow and libpng refuse some, or warn
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        orientation = image.getexif().get(array_layout.ORIENTATION, 1)
    return array_layout.upright(imagecodecs.png_decode(data), orientation), 65535.0
