"""Generators of small data sets that look like aerial, medical and microscopy images, in their formats."""

import io
from typing import Any

import numpy as np
import pydicom
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def tiff_bytes(array: np.ndarray, **options: Any) -> bytes:
    """Return a TIFF file; for the options, see tifffile.imwrite."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def npy_bytes(array: np.ndarray, **options: Any) -> bytes:
    """Return an NPY file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def dicom_bytes(stored: np.ndarray, bits: int = 12, **elements: Any) -> bytes:
    """Return an uncompressed DICOM file.

    Args:
        stored: 8- or 16-bit integers: pixels "h w", frames "n h w" with `NumberOfFrames=n`, or colors "h w 3"
            with `PhotometricInterpretation="RGB"`.
        bits: BitsStored.
        elements: other data elements; None removes one.
    """
    color = elements.get("PhotometricInterpretation") == "RGB"
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(entropy_srcs=[""]),
    )
    dataset.Modality = "OT"
    dataset.Rows, dataset.Columns = stored.shape[-3:-1] if color else stored.shape[-2:]
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if color:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW" if stored.itemsize == 2 else "OB"
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
