"""Images in the rows of a Hugging Face data set."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from cim_lightning.data.pixel_format import PixelFormat, Pixels
from cim_lightning.errors import BadImageError, WrongFormatError


class HFImages:
    """Images in a column of a `datasets.Dataset`, which maps its files into memory.

    Args:
        dataset: with a column of the type Image(decode=False).
        column: its name.
        rows: of the images, in their order.
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
        labels: Int32[np.ndarray, " n"],
        classes: list[str] | None,
        pixels: PixelFormat,
        name: str,
        unknown_classes: Sequence[str] = (),
    ):
        self.dataset, self.column, self.rows, self.labels = dataset, column, rows, labels
        self.classes, self.pixels, self.name = classes, pixels, name
        self.unknown_classes = list(unknown_classes)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        row = int(self.rows[index])
        name = f"row {row} of {self.name}"
        image = self.dataset[row][self.column] or {}
        source = image.get("bytes") or image.get("path")
        if not source:
            raise BadImageError(f"{name}: has no image")
        try:
            return self.pixels.decode(source), int(self.labels[index])
        except WrongFormatError as error:
            raise WrongFormatError(error.reason, error.channels, name) from error
        except BadImageError as error:
            prefix = f"{len(source)} bytes: " if isinstance(source, bytes) else ""
            raise BadImageError(f"{name}: {str(error).removeprefix(prefix)}") from error

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
