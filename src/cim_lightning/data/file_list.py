"""The image files of a list."""

import os
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import numpy as np

from cim_lightning.data.class_labels import LabeledFiles, label_by_folder, sorted_classes
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.image_formats import decodable_suffixes
from cim_lightning.data.list_rows import Row, read_rows
from cim_lightning.data.listing import Listing
from cim_lightning.data.sniff import HEAD, sniff
from cim_lightning.data.source import NO_LABEL
from cim_lightning.data.split_names import find_train, find_val

WHOLE_NUMBER = re.compile(r"(-?\d+)(\.0*)?")  # programs write labels as 3.0 if some are missing
URL = re.compile(r"(?!file:)\w{2,}://.*")
# What a path relative to the list does not have: ~, a URL, a backslash, an empty part, a part . or ..
UNUSUAL = re.compile(r"^~|\\|(^|/)\.{0,2}(/|$)")


def read_list(path: str, given: GivenPath, suffixes: Collection[str]) -> Listing:
    """Read a list of images. Missing files, duplicates and files that are no images are skipped and counted.

    Relative paths are relative to the folder of the list. The images have the order of the list.

    Labels: the column of the list, sorted by number if all are integers. Negative numbers and empty cells are
    no labels. A list without labels is like a folder tree that has its files only: the folder of the list, or
    the common folder of the files if none is in the folder of the list.

    Args:
        path: of the list.
        given: for errors.
        suffixes: of images.

    Raises:
        ConfigError: the list cannot be read, or none of its files exists.
    """
    reader = _ListReader(path, suffixes)
    files = FileIndex.from_names(reader.folder, reader.names(read_rows(path, given)))
    _, first = np.unique(np.array(reader.hashes, np.int64), return_index=True)
    first.sort()
    if not len(first):
        found = ", ".join(f"{count:,} {reason}" for reason, count in reader.skipped.most_common())
        example = f", such as {reader.first_missing!r}" if reader.first_missing else ""
        is_remote = "URLs" in reader.skipped
        hint = "download the images first" if is_remote else "paths are relative to the folder of the list"
        raise given.error(f"lists no image (found: {found or 'nothing'}{example})", hint)
    reader.skipped += Counter(duplicates=len(files) - len(first))
    files, labels, splits = files.take(first), np.array(reader.labels)[first], np.array(reader.splits)[first]
    files = _relative(files)
    skipped = +reader.skipped
    names, classes = [*reader.split_numbers], [*reader.label_numbers]
    if not classes and names == [""]:
        return Listing(files, skipped)
    if names == [""]:
        numbers, folders = files.first_folders()
        if find_train(folders) is not None and find_val(folders) is not None:
            names, splits = ["", *folders], numbers + 1
    table = {}
    for number, name in enumerate(names):
        rows = np.flatnonzero(splits == number)
        if len(rows):
            part = files.take(rows)
            table[name] = _label(part, labels[rows], classes) if classes else label_by_folder(part)
    return Listing(files, skipped, table)


def _relative(files: FileIndex) -> FileIndex:
    """Return files with names relative to their common folder if none is in the folder of the list."""
    if not all(files.name(i).startswith("/") for i in range(len(files))):
        return files
    common = os.path.commonpath({os.path.dirname(files.name(i)) for i in range(len(files))})
    prefix = common.rstrip("/") + "/"
    return FileIndex.from_names(common, (files.name(i).removeprefix(prefix) for i in range(len(files))))


def _label(files: FileIndex, numbers: np.ndarray, names: list[str]) -> LabeledFiles:
    """Return files with labels of the classes that they have, sorted."""
    used = sorted_classes([names[i] for i in np.unique(numbers[numbers >= 0])])
    return LabeledFiles(files, numbers.astype(np.int32), names).with_classes(used)


class _ListReader:
    """Collects labels, splits and hashes of the files of a list while `names` yields their names."""

    def __init__(self, path: str, suffixes: Collection[str]):
        self.folder, self.suffixes = os.path.dirname(path), frozenset(suffixes)
        self.missing_packages = {suffix: hint for suffix, hint in decodable_suffixes().items() if hint}
        self.label_numbers: dict[str, int] = {}
        self.split_numbers: dict[str, int] = {}
        self.labels, self.splits = array("l"), array("l")
        self.hashes = array("q")  # of the names: a set of names would need much more memory
        self.skipped: Counter[str] = Counter()
        self.first_missing = ""

    def names(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the names of the images, relative to the folder of the list if they are in it."""
        prefix = self.folder.rstrip("/") + "/"
        for row in rows:
            path = self._path(row.path)
            if reason := self._unusable(row.path, path):
                self.skipped[reason] += 1
                continue
            name = path.removeprefix(prefix)
            self.hashes.append(hash(name))
            self.labels.append(self._label(row.label))
            self.splits.append(self.split_numbers.setdefault(row.split, len(self.split_numbers)))
            yield name

    def _path(self, given: str) -> str:
        if not UNUSUAL.search(given):  # much faster than the rest
            return f"{self.folder}/{given}"
        given = os.path.expanduser(given.removeprefix("file://"))
        path = os.path.normpath(os.path.join(self.folder, given))
        if "\\" in given and not os.path.exists(path):  # a list written on Windows
            path = os.path.normpath(os.path.join(self.folder, given.replace("\\", "/")))
        return path

    def _unusable(self, given: str, path: str) -> str:
        """Return why a file is skipped; "" for an image."""
        if not given:
            return "without a path"
        if URL.fullmatch(given):
            return "URLs"
        if not os.path.isfile(path):
            self.first_missing = self.first_missing or given
            return "missing files"
        suffix = os.path.splitext(path)[1].lower()
        if suffix in self.suffixes:
            return ""
        if suffix in self.missing_packages:
            return f"{suffix} ({self.missing_packages[suffix]})"
        with open(path, "rb") as file:
            return "" if sniff(file.read(HEAD)) in self.suffixes else suffix or "no suffix"

    def _label(self, text: str) -> int:
        if match := WHOLE_NUMBER.fullmatch(text):
            text = match[1]
        if not text or (match and text.startswith("-")):
            return NO_LABEL
        return self.label_numbers.setdefault(text, len(self.label_numbers))
