"""Images in the rows of a Hugging Face data set."""

import os
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from cim_lightning.data.decode import bad_image_errors, read_bytes
from cim_lightning.data.image_keys import distinct, name_key
from cim_lightning.data.pixel_format import PixelFormat, Pixels
from cim_lightning.errors import BadImageError, WrongFormatError


class HFImages:
    """Images in a column of a `datasets.Dataset`, which maps its files into memory.

    Args:
        dataset: with a column of the type Image(decode=False).
        column: its name.
        rows: of the images, in their order.
        keys: of the images, see Source.
        labels: of the images, in 0..len(classes) - 1, or NO_LABEL.
        classes: names in the order of the labels; None: no image has a label.
        pixels: format of the images.
        name: of the data set, for errors.
        unknown_classes: see Source.
    """

    def __init__(
        self,
        dataset: Any,
        column: str,
        rows: Int64[np.ndarray, " n"],
        keys: UInt64[np.ndarray, " n"],
        labels: Int32[np.ndarray, " n"],
        classes: list[str] | None,
        pixels: PixelFormat,
        name: str,
        unknown_classes: Sequence[str] = (),
    ):
        self.dataset, self.column, self.rows, self.keys = dataset, column, rows, keys
        self.labels, self.classes, self.pixels, self.name = labels, classes, pixels, name
        self.unknown_classes = list(unknown_classes)

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, index: int) -> str:
        """Return the row of an image in the data set, such as "row 3 of owner/name (train)"."""
        return f"row {self.rows[index]} of {self.name}"

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        source, name = self._file(index), repr(self.path(index))
        try:
            return self.pixels.decode(source), int(self.labels[index])
        except WrongFormatError as error:
            raise WrongFormatError(error.reason, error.channels, name) from error
        except BadImageError as error:
            raise BadImageError(error.reason if isinstance(source, bytes) else str(error), name) from error

    def content(self, index: int) -> bytes:
        """Return the file of an image.

        Raises:
            BadImageError: it cannot be read.
        """
        source = self._file(index)
        with bad_image_errors(source):
            return read_bytes(source)

    def _file(self, index: int) -> str | bytes:
        """Return the path of an image's file, or the content of the file."""
        image = self.dataset[int(self.rows[index])][self.column] or {}
        source = image.get("bytes") or image.get("path")
        if not source:
            raise BadImageError("has no image", repr(self.path(index)))
        return source

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the sizes or file names of the images, and of their labels, in order."""
        from pyarrow.compute import call_function

        column = self.dataset.data.column(self.column)
        lengths = [call_function("binary_length", [part.field("bytes")]) for part in column.chunks]
        sizes = np.concatenate([part.fill_null(0).to_numpy(zero_copy_only=False) for part in lengths])[
            self.rows
        ]
        content = blake2b(sizes.astype("<i8").tobytes(), digest_size=16)
        for row in self.rows[sizes == 0].tolist():  # images in files of their own
            path = column[row].as_py() or {}
            name = (path.get("path") or "").rpartition("/")[2]
            content.update(name.encode("utf-8", "surrogateescape") + b"\0")
        content.update(self.labels.astype("<i4").tobytes() + repr(self.classes).encode())
        return content.hexdigest()


def row_keys(dataset: Any, column: str, folder: str) -> UInt64[np.ndarray, " n"]:
    """Return the keys of all images in a column: of their file names, or of the rows if some have no name.

    Args:
        folder: the names of images in it are relative to it, as in FileIndex.
    """
    parts = [part.field("path") for part in dataset.data.column(column).chunks]
    if any(part.null_count for part in parts):
        return np.arange(len(dataset), dtype=np.uint64)
    prefix = os.path.abspath(os.path.expanduser(folder)).rstrip("/") + "/"
    names = (name.removeprefix(prefix) for part in parts for name in part.to_pylist())
    return distinct(np.fromiter((name_key(os.fsencode(name)) for name in names), np.uint64, len(dataset)))
