"""Generators of small data sets that look like aerial, medical and microscopy images, in their formats."""

import io
from collections.abc import Iterator
from pathlib import Path
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


def write_aerial(root: Path, per_class: int, size: int = 96, seed: int = 0) -> None:
    """Write tiled TIFF files of 8 bands and 16 bits: farmland, forest, town and lake.

    Values are reflectances times 10,000, as in satellite images: far below 65535. Plants are bright in the
    last four bands, water is dark there.
    """
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "planarconfig": "contig",
        "compression": "deflate",
    }
    for path, rng in _files(root, ("farmland", "forest", "lake", "town"), per_class, ".tif", seed):
        image = _aerial(path.parent.name, size, rng)
        path.write_bytes(tiff_bytes(image, tile=(32, 32), **options))


def write_medical(root: Path, per_class: int, size: int = 96, seed: int = 0) -> None:
    """Write DICOM files of 12 bits: a bright body on noise with no, one or several discs.

    Every second file has inverted values (MONOCHROME1).
    """
    discs = {"clear": (0, 1), "one": (1, 2), "several": (3, 6)}
    for i, (path, rng) in enumerate(_files(root, tuple(discs), per_class, ".dcm", seed)):
        y, x = _grid(size)
        body = 1400 * (((x - 0.5) / 0.42) ** 2 + ((y - 0.52) / 0.47) ** 2 < 1)
        image = 300 + body * (1 + 0.3 * np.sin(40 * y + 6 * (x - 0.5) ** 2))
        for _ in range(rng.integers(*discs[path.parent.name])):
            center_x, center_y, radius = (
                rng.uniform(0.25, 0.75),
                rng.uniform(0.25, 0.8),
                rng.uniform(0.05, 0.11),
            )
            image += 900 * ((x - center_x) ** 2 + (y - center_y) ** 2 < radius**2)
        image = image * rng.uniform(0.7, 1.2) + rng.normal(0, 90, image.shape)
        stored = image.clip(0, 4095).astype(np.uint16)
        inverted = i % 2 == 1
        kind = "MONOCHROME1" if inverted else "MONOCHROME2"
        path.write_bytes(dicom_bytes(4095 - stored if inverted else stored, PhotometricInterpretation=kind))


def write_microscopy(root: Path, per_class: int, size: int = 96, seed: int = 0) -> None:
    """Write gray TIFF files of 16 bits: round cells, rods, and clusters of cells, dark as raw exposures."""
    for path, rng in _files(root, ("clusters", "rods", "round"), per_class, ".tif", seed):
        y, x = _grid(size)
        image = 400 + 150 * np.sin(3 * x + rng.uniform(0, 6)) ** 2
        kind, center = path.parent.name, rng.uniform(0.3, 0.7, 2)
        for _ in range(rng.integers(6, 12)):
            place = rng.normal(center, 0.1) if kind == "clusters" else rng.uniform(0.05, 0.95, 2)
            length, width = (0.13, 0.025) if kind == "rods" else (0.055, 0.05)
            angle, brightness = rng.uniform(0, np.pi), rng.uniform(2500, 6000)
            u = (x - place[0]) * np.cos(angle) + (y - place[1]) * np.sin(angle)
            v = (y - place[1]) * np.cos(angle) - (x - place[0]) * np.sin(angle)
            distance = (u / length) ** 2 + (v / width) ** 2
            image += brightness * (np.exp(-(distance**2)) - 0.5 * np.exp(-6 * distance))  # darker inside
        image = rng.poisson(image / 20) * 20
        path.write_bytes(tiff_bytes(image.clip(0, 65535).astype(np.uint16), photometric="minisblack"))


def _files(
    root: Path, classes: tuple[str, ...], per_class: int, suffix: str, seed: int
) -> Iterator[tuple[Path, np.random.Generator]]:
    """Yield the path and the random numbers of each image."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            yield root / name / f"{i:05d}{suffix}", np.random.default_rng((seed, label, i))


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates y and x of the pixels, in 0..1."""
    y, x = np.mgrid[:size, :size] / size
    return y, x


def _aerial(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    soil = np.array([9, 11, 13, 16, 19, 22, 25, 28]) * 100.0
    plants = np.array([3, 4, 8, 4, 15, 35, 42, 40]) * 100.0
    water, roof = (
        np.array([9, 8, 6, 4, 2, 1, 1, 1]) * 100.0,
        np.array([20, 22, 25, 27, 28, 29, 30, 31]) * 100.0,
    )
    y, x = _grid(size)
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "town":
        side = rng.uniform(8, 12)
        houses = (np.mod(u * side, 1) > 0.4) & (np.mod(v * side, 1) > 0.4)
        mixture = np.where(houses[..., None], roof, 0.6 * soil + 0.4 * plants)
    elif kind == "forest":
        crowns = np.sin(60 * u + 3 * np.sin(17 * v)) * np.sin(55 * v + 3 * np.sin(19 * u))
        mixture = plants * (0.75 + 0.25 * crowns)[..., None]
    else:  # fields around
        seeds = rng.uniform(-1, 1.5, (60, 2))
        nearest = ((u[..., None] - seeds[:, 0]) ** 2 + 2 * (v[..., None] - seeds[:, 1]) ** 2).argmin(-1)
        growth, rows = rng.uniform(0, 1, 60)[nearest], np.sin(90 * (u + v * rng.uniform(-1, 1)))
        mixture = soil + (plants - soil) * (growth * (0.85 + 0.15 * rows))[..., None]
    if kind == "lake":
        center, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.2, 0.35)
        shore = radius * (1 + 0.2 * np.sin(3 * np.arctan2(y - center[1], x - center[0]) + angle))
        mixture = np.where(
            ((x - center[0]) ** 2 + (y - center[1]) ** 2 < shore**2)[..., None], water, mixture
        )
    noisy = mixture * rng.uniform(0.8, 1.2) + rng.normal(0, 40, mixture.shape)
    return noisy.clip(0, 65535).astype(np.uint16)
