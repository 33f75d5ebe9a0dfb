"""A Source of image files."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b

import numpy as np
from jaxtyping import Int32, UInt64

from cim_lightning.data.decode import bad_image_errors, read_bytes
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.image_keys import distinct
from cim_lightning.data.pixel_format import PixelFormat, Pixels


class ImageFiles:
    """Images in files, with labels.

    Args:
        files: of the images.
        labels: of the images, in 0..len(classes) - 1, or NO_LABEL.
        classes: names in the order of the labels; None: no image has a label.
        pixels: format of the images.
        unknown_classes: see Source.
    """

    def __init__(
        self,
        files: FileIndex,
        labels: Int32[np.ndarray, " n"],
        classes: list[str] | None,
        pixels: PixelFormat,
        unknown_classes: Sequence[str] = (),
    ):
        self.files, self.labels, self.classes, self.pixels = files, labels, classes, pixels
        self.unknown_classes = list(unknown_classes)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the names and labels in their order. It does not depend on the folder."""
        text = repr((self.files.fingerprint, self.classes, self.unknown_classes))
        return blake2b(
            text.encode("utf-8", "surrogateescape") + self.labels.tobytes(), digest_size=16
        ).hexdigest()

    @cached_property
    def keys(self) -> UInt64[np.ndarray, " n"]:
        return distinct(self.files.name_hashes)

    def path(self, index: int) -> str:
        """Return the path of an image; raise IndexError unless 0 <= index < len."""
        return self.files.path(index)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        return self.pixels.decode(self.path(index)), int(self.labels[index])

    def content(self, index: int) -> bytes:
        """Return the file of an image.

        Raises:
            BadImageError: it cannot be read.
        """
        path = self.path(index)
        with bad_image_errors(path):
            return read_bytes(path)
