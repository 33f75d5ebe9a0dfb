"""Write the images of a data set into tar archives, in the processes of a loader."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from cim_lightning.data import archive_index
from cim_lightning.data.archive_files import writing_archive
from cim_lightning.data.archive_folder import ArchiveFolder
from cim_lightning.data.archive_index import ArchiveIndex, merge
from cim_lightning.data.archive_part import Encoded, NewPart, has_class_folders
from cim_lightning.data.bad_images import BadImages
from cim_lightning.data.bad_share import BadShare
from cim_lightning.data.loader import BatchLoader, Loading
from cim_lightning.data.reading import Reading, image_path
from cim_lightning.data.source import Splits
from cim_lightning.data.stored_image import StoredFormat
from cim_lightning.errors import BadImageError

SPLITS = ("train", "val")
BATCH = 16  # images that a process returns at a time
SAMPLE = 32  # images of an estimate
HEADER = 512 + 256  # bytes per image in an archive beside its content: a header, and half a block


class Archive(NamedTuple):
    """An archive to be written: which images of a split it has."""

    name: str
    rows: range  # of the images in their source

    def batches(self) -> list[range]:
        """Return the rows that a process returns at a time."""
        return [self.rows[i : i + BATCH] for i in range(0, len(self.rows), BATCH)]


class EncodedImages(Dataset[Encoded]):
    """The images of a Source as files of an archive."""

    def __init__(self, source: Any, format: StoredFormat):
        self.source, self.format = source, format
        self.reading = Reading()  # the loader replaces it

    def __getitem__(self, row: int) -> Encoded:
        try:
            with self.reading.image(row):
                return Encoded(row, *self.format.store(self.source, row))
        except BadImageError as error:
            return Encoded(row, None, -1, error.reason)


class Archiver:
    """Writes the archives of a data set that are not finished.

    Args:
        splits: the images.
        folder: of the archives.
        format: of the stored images.
        images_per_archive: an archive has this number of images, in their order; the last one has fewer.
        loading: processes that encode, and their limits.
    """

    def __init__(
        self,
        splits: Splits,
        folder: ArchiveFolder,
        format: StoredFormat,
        images_per_archive: int,
        loading: Loading,
    ):
        self.splits, self.folder, self.format, self.loading = splits, folder, format, loading
        self.archives = {
            split: _plan(split, len(getattr(splits, split)), images_per_archive) for split in SPLITS
        }

    def pending(self, split: str) -> list[Archive]:
        """Return the archives of a split that are not finished."""
        return [archive for archive in self.archives[split] if self.folder.part(archive.name) is None]

    def num_images(self) -> int:
        """Return the number of images of all archives."""
        return sum(len(archive.rows) for split in SPLITS for archive in self.archives[split])

    def images_left(self) -> int:
        """Return the number of images whose archives are not finished."""
        return sum(len(archive.rows) for split in SPLITS for archive in self.pending(split))

    def estimate(self) -> tuple[float, float]:
        """Return the seconds of one process and the bytes in an archive per image.

        They are the means of some images that are spread over the training images.
        """
        images, sizes = EncodedImages(self.splits.train, self.format), []
        rows = np.linspace(0, len(self.splits.train) - 1, min(SAMPLE, len(self.splits.train)))
        started = time.perf_counter()
        for row in np.unique(rows.round().astype(int)):
            stored = images[int(row)].stored
            sizes.append(0 if stored is None else len(stored.data) + HEADER)
        return (time.perf_counter() - started) / len(sizes), sum(sizes) / len(sizes)

    def write(self, advance: Callable[[int], object] = lambda images: None) -> None:
        """Write all archives that are not finished, and the index.

        Args:
            advance: called with the number of images that were written since the last call.

        Raises:
            ConfigError: too many images cannot be decoded, see BadShare.
            LoadingError: an image is not read within the time limit, or a process failed.
        """
        for split in SPLITS:
            self._write_split(split, advance)
        archive_index.write(self.folder.path, self._index())

    def _write_split(self, split: str, advance: Callable[[int], object]) -> None:
        source, pending = getattr(self.splits, split), self.pending(split)
        batches = [rows for archive in pending for rows in archive.batches()]
        if not batches:
            return
        bad_images = self.loading.bad_images or BadImages()
        share = BadShare(bad_images, source, sum(map(len, batches)))
        writes_labels = not has_class_folders(source)
        loader = iter(BatchLoader(EncodedImages(source, self.format), list, batches, self.loading))
        for archive in pending:
            with writing_archive(self.folder.path / archive.name) as writer:
                part = NewPart(source, writer.add, writes_labels)
                for images in islice(loader, len(archive.batches())):
                    for image in images:
                        if image.stored is not None:
                            part.add(image)
                            continue
                        path, row = image_path(source, image.row)
                        bad_images.add(path or f"image {row} ({split})", image.reason)
                    share.count(len(images), sum(image.stored is None for image in images))
                    advance(len(images))
            self.folder.finish(archive.name, part.result())

    def _index(self) -> ArchiveIndex:
        sources = {split: getattr(self.splits, split) for split in SPLITS if self.archives[split]}
        archives = [archive.name for split in sources for archive in self.archives[split]]
        parts = {name: (number, self.folder.part(name)) for number, name in enumerate(archives)}
        images = {}
        for split, source in sources.items():
            found = (parts[archive.name] for archive in self.archives[split])
            images[split] = merge([(number, part) for number, part in found if part is not None], source)
        return ArchiveIndex(
            {name: (self.folder.path / name).stat().st_size for name in archives},
            images,
            {split: source.classes for split, source in sources.items()},
            {split: list(getattr(source, "unknown_classes", [])) for split, source in sources.items()},
            self.splits.drawn,
        )


def _plan(split: str, count: int, images_per_archive: int) -> list[Archive]:
    starts = range(0, count, images_per_archive)
    rows = (range(start, min(start + images_per_archive, count)) for start in starts)
    return [Archive(f"{split}-{i:05d}.tar", part) for i, part in enumerate(rows)]
