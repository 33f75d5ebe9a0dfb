"""Read DICOM files, by pydicom."""

import io
import warnings
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cim_lightning.data import array_layout
from cim_lightning.errors import BadImageError

AIR, BONE = -1024.0, 3071.0  # Hounsfield units that map to 0 and 1: the range of 12 bits


def read_dicom(data: bytes) -> tuple[Shaped[np.ndarray, "h w c"], float]:
    """Read the first frame of a DICOM file as "h w c", with the value that maps to 1.0.

    * Computed tomography: Hounsfield units plus 1024, from air (0) to 4095, the same for all scanners.
    * Other modalities: the stored values, above the lowest one that the type can hold. 2^BitsStored - 1 maps
      to 1.0. The scale of a linear rescaling cancels out; the table of a Modality LUT Sequence is applied.
    * MONOCHROME1, where high values are dark, is inverted, and so is a rescaling by a negative slope. Padding
      becomes 0.
    * Colors become RGB, palettes and YBR, too.
    * The window (VOI) is ignored: it is the choice of a viewer, differs between the images of a study, and
      clips values.

    Raises:
        BadImageError: no installed package decodes the compression, or there are no pixels.
        Exception: any, if the file is damaged.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    with warnings.catch_warnings(action="ignore"):  # about values that break the standard
        dataset: Any = pydicom.dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
        if "PixelData" not in dataset:
            raise BadImageError("has no pixels, such as a report or a directory")
        _check_compression(dataset)
        array_layout.check_bytes((dataset.Rows, dataset.Columns, dataset.SamplesPerPixel), 4)
        stored = pixel_array(dataset, index=0)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
            return stored, array_layout.white_value(stored)
        if stored.ndim == 3:
            return stored, float(2**dataset.BitsStored - 1)
        missing, lowest, white = _is_padding(stored, dataset), 0.0, float(2**dataset.BitsStored - 1)
        values, inverted = stored.astype(np.float32), dataset.PhotometricInterpretation == "MONOCHROME1"
        if "ModalityLUTSequence" in dataset:
            values = apply_modality_lut(stored, dataset).astype(np.float32)
            white = float(2 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1)
        elif dataset.get("Modality") == "CT" or dataset.get("RescaleType") == "HU":
            values = apply_modality_lut(stored, dataset).astype(np.float32)
            lowest, white = AIR, BONE - AIR
        else:
            lowest = -float(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0.0
            inverted ^= dataset.get("RescaleSlope", 1) < 0
    values = np.clip(values - lowest, 0, white)
    values = white - values if inverted else values
    values[missing] = 0
    return values[:, :, None], white


def _is_padding(stored: Shaped[np.ndarray, "h w"], dataset: Any) -> Shaped[np.ndarray, "h w"]:
    """Return where a pixel is padding: its value, or the range up to the limit."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _check_compression(dataset: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None or not syntax.is_encapsulated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        hint = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        raise BadImageError(f"no installed package decodes its compression, {syntax.name} ({hint})")
