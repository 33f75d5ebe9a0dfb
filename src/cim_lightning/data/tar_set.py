"""The images of many tar archives, in the order of their names."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Integer

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.tar_index import key_and_field, read_index
from cim_lightning.errors import ConfigError

NO_TEXT = -1  # number of the label of an image without one


class Places(NamedTuple):
    """Places of images in archives, in a few arrays, which forked workers share."""

    archives: Int32[np.ndarray, " n"]  # numbers of the archives
    offsets: Int64[np.ndarray, " n"]  # of the bytes in the archive
    sizes: Int64[np.ndarray, " n"]  # in bytes

    def take(self, rows: Integer[np.ndarray, " k"]) -> "Places":
        """Return some places, in the order of `rows`."""
        return Places(*(array[rows] for array in self))


class TarSet(NamedTuple):
    """The images of several archives, sorted by name, then by archive."""

    files: FileIndex  # names of the images
    places: Places
    texts: Int32[np.ndarray, " n"]  # numbers of the labels that the archives have; NO_TEXT: none
    labels: list[str]  # by number
    skipped: Counter[str]  # number of other files by reason
    damaged: list[tuple[int, str]]  # archives that are read in part: number, and the reason


def read_set(
    paths: Sequence[str],
    folders: Sequence[str],
    suffixes: Collection[str],
    counted: Callable[[Iterable[Any]], Iterable[Any]] = lambda members: members,
) -> TarSet:
    """List the images of archives; see `read_index`.

    The order depends on the names of the images only: archives made from a folder, in any order, have the
    order of the folder. Of several images of a WebDataset sample, such as `0.jpg` and `0.mask.png`, one is
    used: that with the fewest dots. If there are as many different fields as samples, they are parts of
    names, and all images are used.

    Args:
        paths: of the archives.
        folders: of each archive: where its images are in the tree of all names, such as "train"; "": on top.
        suffixes: of images, in lower case.
        counted: called with the members of each archive; returns them and may show the progress.

    Raises:
        ConfigError: an archive is compressed or cannot be read.
    """
    names: list[str] = []
    columns: list[Int64[np.ndarray, "4 n"]] = []
    numbers: dict[str | None, int] = {None: NO_TEXT}
    skipped: Counter[str] = Counter()
    damaged: list[tuple[int, str]] = []
    for number, path in enumerate(paths):
        try:
            found = read_index(path, suffixes, counted)
        except OSError as error:
            raise ConfigError("root", path, f"cannot be read ({error.strerror})") from error
        names += [f"{folders[number]}/{name}" for name in found.names] if folders[number] else found.names
        texts = [numbers.setdefault(label, len(numbers) - 1) for label in found.labels]
        columns.append(np.array([[number] * len(texts), found.offsets, found.sizes, texts], np.int64))
        skipped += found.skipped
        if found.damage:
            damaged.append((number, found.damage))
    archives, offsets, sizes, texts = np.concatenate([np.zeros((4, 0), np.int64), *columns], axis=1)
    # Sorting is stable, and the rows of equal names are in the order of the archives.
    order = _last_of_each(sorted(range(len(names)), key=names.__getitem__), names, archives, skipped)
    order = _one_per_sample(order, names, archives, skipped)
    places = Places(archives.astype(np.int32), offsets, sizes).take(np.array(order, np.int64))
    files = FileIndex.from_names("", (names[row] for row in order))
    labels = [text for text in numbers if text is not None]
    return TarSet(files, places, texts[order].astype(np.int32), labels, skipped, damaged)


def _last_of_each(
    order: list[int], names: list[str], archives: np.ndarray, skipped: Counter[str]
) -> list[int]:
    """Leave out files that a later file of the same name replaces, as in an archive made with `tar -r`."""
    replaced = {
        row
        for row, after in pairwise(order)
        if names[row] == names[after] and archives[row] == archives[after]
    }
    if replaced:
        skipped["replaced by a later file"] += len(replaced)
    return [row for row in order if row not in replaced]


def _one_per_sample(
    order: list[int], names: list[str], archives: np.ndarray, skipped: Counter[str]
) -> list[int]:
    """Leave out all images of a WebDataset sample except one."""
    fields, num_samples = set(), 0
    several: list[list[int]] = []
    # The names of a sample are neighbors, because they begin with the same characters.
    for _, group in groupby(order, key=lambda row: key_and_field(names[row])[0]):
        samples: dict[int, list[int]] = {}
        for row in group:
            samples.setdefault(int(archives[row]), []).append(row)
            fields.add(key_and_field(names[row])[1])
        num_samples += len(samples)
        several += [rows for rows in samples.values() if len(rows) > 1]
    if len(fields) >= num_samples:
        return order
    others = {row for rows in several for row in sorted(rows, key=lambda row: _preference(names[row]))[1:]}
    if others:
        skipped["further images of a sample"] += len(others)
    return [row for row in order if row not in others]


def _preference(name: str) -> tuple[int, str]:
    field = key_and_field(name)[1]
    return field.count("."), field
