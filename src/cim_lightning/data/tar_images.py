"""The source that reads images from tar archives."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt64

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.image_keys import distinct
from cim_lightning.data.pixel_format import PixelFormat, Pixels
from cim_lightning.data.tar_set import Places
from cim_lightning.errors import BadImageError, WrongFormatError

MAX_OPEN = 128  # archives per process; systems allow 256 to 1024 files


class TarImages:
    """Images in tar archives, with labels. Each is read with one system call.

    Args:
        paths: of the archives.
        files: names of the images.
        places: where they are.
        labels: of the images, in 0..len(classes) - 1, or NO_LABEL.
        classes: names in the order of the labels; None: no image has a label.
        pixels: format of the images.
        unknown_classes: see Source.
        keys: see Source; None: hashes of the names.
    """

    def __init__(
        self,
        paths: Sequence[str],
        files: FileIndex,
        places: Places,
        labels: Int32[np.ndarray, " n"],
        classes: list[str] | None,
        pixels: PixelFormat,
        unknown_classes: Sequence[str] = (),
        keys: UInt64[np.ndarray, " n"] | None = None,
    ):
        self.files, self.places, self.labels, self.classes, self.pixels = (
            files,
            places,
            labels,
            classes,
            pixels,
        )
        self.unknown_classes = list(unknown_classes)
        self._given_keys = keys
        self.archives = OpenArchives(paths)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Return the path of an image: that of the archive, then the name in it."""
        return f"{self.archives.paths[self.places.archives[index]]}/{self.files.name(index)}"

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        data = self.content(index)
        try:
            image = self.pixels.decode(data)
        except WrongFormatError as error:
            raise WrongFormatError(error.reason, error.channels, repr(self.path(index))) from error
        except BadImageError as error:
            raise BadImageError(error.reason, repr(self.path(index))) from error
        return image, int(self.labels[index])

    def content(self, index: int) -> bytes:
        """Return the file of an image.

        Raises:
            BadImageError: the archive cannot be read.
        """
        archive, offset, size = (int(array[index]) for array in self.places)
        try:
            data = self.archives.read(archive, offset, size)
        except OSError as error:
            name = repr(self.archives.paths[archive])
            raise BadImageError(error.strerror or type(error).__name__, name) from error
        if len(data) < size:
            raise BadImageError("the archive is shorter than at the start", repr(self.path(index)))
        return data

    @cached_property
    def keys(self) -> UInt64[np.ndarray, " n"]:
        return distinct(self.files.name_hashes) if self._given_keys is None else self._given_keys

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of names, sizes and labels. It does not depend on the paths of the archives."""
        text = repr((self.files.fingerprint, self.classes, self.unknown_classes))
        content = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16)
        content.update(self.places.sizes.astype("<i8").tobytes())
        content.update(self.labels.astype("<i4").tobytes())
        return content.hexdigest()


class OpenArchives:
    """Files that are opened on first use. Few are open at a time; the one that was used last stays longest.

    Forked workers may share the open files, because `pread` has no position in the file.
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = list(paths)
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of a file; fewer, if it ends before.

        Raises:
            OSError: the file cannot be read.
        """
        if number in self._descriptors:
            self._descriptors.move_to_end(number)
        else:
            self._descriptors[number] = os.open(self.paths[number], os.O_RDONLY | os.O_CLOEXEC)
            if len(self._descriptors) > MAX_OPEN:
                os.close(self._descriptors.popitem(last=False)[1])
        return os.pread(self._descriptors[number], size, offset)

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenArchives, (self.paths,)

    def __del__(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
