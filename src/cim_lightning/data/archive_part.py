"""The images of one archive that is written: their names, places and labels."""

import posixpath
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from cim_lightning.data.archive_files import Member
from cim_lightning.data.class_labels import renumber
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.stored_image import StoredImage, file_name


class Part(NamedTuple):
    """The images of a finished archive."""

    rows: Int64[np.ndarray, " n"]  # of the images in their source
    offsets: Int64[np.ndarray, " n"]  # of their content in the archive, in bytes
    sizes: Int64[np.ndarray, " n"]  # in bytes
    labels: Int32[np.ndarray, " n"]  # in 0..len(classes) - 1, or NO_LABEL
    names: list[str]  # in the archive


class Encoded(NamedTuple):
    """An image that a process has read and encoded."""

    row: int  # in the source
    stored: StoredImage | None  # None: the image cannot be decoded
    label: int
    reason: str = ""  # why it cannot be decoded


class NewPart:
    """Collects the images of an archive that is being written.

    Args:
        source: of the images.
        write: adds a file to the archive.
        writes_labels: write the class of each image to a file beside it, see `has_class_folders`.
    """

    def __init__(self, source: Any, write: Callable[[str, bytes], Member], writes_labels: bool):
        self.source, self.write, self.writes_labels = source, write, writes_labels
        self.columns: list[tuple[int, int, int, int]] = []
        self.names: list[str] = []

    def add(self, image: Encoded) -> None:
        """Write an image and its label."""
        assert image.stored is not None
        classes = self.source.classes
        class_name = classes[image.label] if classes and image.label >= 0 else None
        name = file_name(_source_name(self.source, image.row, class_name), image.stored.suffix)
        member = self.write(name, image.stored.data)
        if class_name is not None and self.writes_labels:
            key, _ = posixpath.splitext(name)
            self.write(f"{key}.cls", class_name.encode("utf-8", "surrogateescape"))
        self.columns.append((image.row, member.offset, member.size, image.label))
        self.names.append(name)

    def result(self) -> Part:
        rows, offsets, sizes, labels = np.array(self.columns, np.int64).reshape(-1, 4).T
        return Part(rows, offsets, sizes, labels.astype(np.int32), self.names)


def has_class_folders(source: Any) -> bool:
    """Return whether the names of the images in archives have all labels: as their first folders.

    Programs read either folders or files of labels, so one exception is enough to need files.
    """
    labels, files, classes = getattr(source, "labels", None), getattr(source, "files", None), source.classes
    if not classes:
        return True
    if isinstance(files, FileIndex):
        numbers, names = files.first_folders()
        return bool((numbers >= 0).all() and (renumber(numbers, names, classes) == labels).all())
    return not any("/" in name for name in classes) and (labels is None or bool((labels >= 0).all()))


def _source_name(source: Any, row: int, class_name: str | None) -> str:
    """Return the name of an image below its split: that of its file, or its number below its class."""
    files = getattr(source, "files", None)
    if isinstance(files, FileIndex):
        return files.name(row)
    folder = f"{class_name.replace('/', '_')}/" if class_name else ""
    return f"{folder}{row:08d}"
