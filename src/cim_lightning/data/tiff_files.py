"""Read TIFF files of any number of bands, by tifffile."""

import contextlib
import io
import logging
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cim_lightning.data import array_layout
from cim_lightning.errors import BadImageError

MIN_IS_WHITE, PALETTE = 0, 3  # values of the tag PhotometricInterpretation
GDAL_NODATA = 42113  # tag


def read_tiff(data: bytes) -> tuple[Shaped[np.ndarray, "h w c"], float]:
    """Read the first image of a TIFF file as "h w c", with the value that maps to 1.0.

    * Bands are the samples of a page, in any planar configuration, or the pages that the axis "C" of ImageJ
      and OME names. The first time, slice and position are read.
    * Pages whose axis has no name follow the rule of NPY files, if tifffile has written them; otherwise the
      first page is read.
    * 12-bit values map to 0..4095. An image whose smallest value is white is inverted.
    * Pixels with GDAL's "no data" value become 0. The orientation is applied.

    Raises:
        BadImageError: the file has a palette, an axis that is no channel, or is too large.
        Exception: any, if the file is damaged.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(
        logging.CRITICAL
    )  # odd metadata do not mean that the pixels are bad
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        if page.photometric == PALETTE:
            raise BadImageError("has a palette; convert it to RGB")
        image = file.series[0] if file.is_imagej or file.is_ome or file.is_shaped else page
        array_layout.check_bytes(image.shape, image.dtype.itemsize)
        pixels = _channels_last(image.asarray(), image.axes)
        pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels  # of 1 bit
        bits = page.bitspersample
        bits = bits[0] if isinstance(bits, tuple) else bits
        tags = {
            code: page.tags[code].value
            for code in (array_layout.ORIENTATION, GDAL_NODATA)
            if code in page.tags
        }
    white = array_layout.white_value(pixels)
    if pixels.dtype.kind == "u" and bits < 8 * pixels.dtype.itemsize:
        white = float(2**bits - 1)
    missing = _equals(pixels, tags.get(GDAL_NODATA))
    if page.photometric == MIN_IS_WHITE and pixels.dtype.kind == "u":
        pixels = (white - pixels).astype(pixels.dtype)
    if missing is not None:
        pixels = np.where(missing, pixels.dtype.type(0), pixels)
    return array_layout.upright(pixels, tags.get(array_layout.ORIENTATION, 1)), white


def _channels_last(array: Shaped[np.ndarray, "..."], axes: str) -> Shaped[np.ndarray, "h w c"]:
    """Return the first image of an array whose axes have tifffile's letters."""
    if axes.strip("YX") == "Q":  # no name
        return array_layout.channels_last(array)
    for letter in axes:
        if letter not in "CSYX":
            array = array.take(0, axis=axes.index(letter))
            axes = axes.replace(letter, "", 1)
    bands = [i for i, letter in enumerate(axes) if letter in "CS"]
    rows_columns = [axes.index("Y"), axes.index("X")]
    pixels = array.transpose(*rows_columns, *bands)
    return pixels.reshape(*pixels.shape[:2], -1)


def _equals(pixels: Shaped[np.ndarray, "h w c"], nodata: Any) -> Shaped[np.ndarray, "h w c"] | None:
    with contextlib.suppress(ValueError):
        return pixels == float(nodata) if nodata is not None else None
    return None
