"""Labels of image files: the number of their first-level folder, or the labels of a table."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int32, Int64, Integer

from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.source import NO_LABEL

# Largest share of images beside the folders that are there by accident. A single image always is.
STRAY_SHARE = 0.05


@dataclass(frozen=True)
class LabeledFiles:
    """Image files and their labels."""

    files: FileIndex  # "n"
    labels: Int32[np.ndarray, " n"]  # in 0..len(classes) - 1, or NO_LABEL
    classes: list[str]  # sorted
    skipped: Counter[str] = field(default_factory=Counter)  # number of images by reason
    why_unlabeled: str = ""  # in words, if the folders could have been classes

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Integer[np.ndarray, " k"]) -> "LabeledFiles":
        """Return some of the files."""
        return replace(self, files=self.files.take(indices), labels=self.labels[indices])

    def with_classes(self, classes: Sequence[str]) -> "LabeledFiles":
        """Return the files with labels that number other classes; images of no such class are unlabeled."""
        return replace(self, labels=renumber(self.labels, self.classes, classes), classes=list(classes))


def renumber(
    labels: Int32[np.ndarray, " n"], names: Sequence[str], classes: Sequence[str]
) -> Int32[np.ndarray, " n"]:
    """Return labels that number `classes` for labels that number `names`; NO_LABEL for other names."""
    numbers = {name: i for i, name in enumerate(classes)}
    table = np.array([*(numbers.get(name, NO_LABEL) for name in names), NO_LABEL], np.int32)
    return table[labels]


def unlabeled(files: FileIndex, why: str = "") -> LabeledFiles:
    """Return files without labels."""
    return LabeledFiles(files, np.full(len(files), NO_LABEL, np.int32), [], why_unlabeled=why)


def are_strays(num_beside: int, num_images: int) -> bool:
    """Return whether images beside folders are so few that they are there by accident."""
    return num_beside < num_images and num_beside <= max(1, STRAY_SHARE * num_images)


def label_by_folder(files: FileIndex, min_classes: int = 2) -> LabeledFiles:
    """Label files by their first-level folders.

    Files beside the folders are skipped if they are few. Otherwise no file has a label.

    Args:
        min_classes: smallest number of folders that make files beside them strays; with fewer folders, files
            beside them mean that the folders are no classes.
    """
    numbers, names = files.first_folders()
    beside = np.flatnonzero(numbers < 0)
    if not len(beside):
        return LabeledFiles(files, numbers, names)
    if len(names) < min_classes or not are_strays(len(beside), len(files)):
        why = f"{len(beside):,} of {len(files):,} images are beside the folders" if names else ""
        return unlabeled(files, why)
    inside = LabeledFiles(files, numbers, names).take(np.flatnonzero(numbers >= 0))
    return replace(inside, skipped=Counter({"beside the classes": len(beside)}))


def merge(parts: Sequence[LabeledFiles]) -> LabeledFiles:
    """Return the files of all parts, in their order. Classes of the same name become one class."""
    if len(parts) == 1:
        return parts[0]
    classes = sorted_classes({name for part in parts for name in part.classes})
    root = os.path.commonpath([part.files.root for part in parts])
    names = (os.path.relpath(part.files.path(i), root) for part in parts for i in range(len(part.files)))
    labels = np.concatenate([part.with_classes(classes).labels for part in parts])
    skipped: Counter[str] = sum((part.skipped for part in parts), Counter())
    return LabeledFiles(FileIndex.from_names(root, names), labels, classes, skipped)


def sorted_classes(names: Collection[str]) -> list[str]:
    """Return names in the order of their numbers if all are integers, else in the order of their letters."""
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def without(part: LabeledFiles, paths: Collection[str]) -> LabeledFiles:
    """Return the files whose path is not among `paths`."""
    return part.take(_outside(part.files, paths))


def exclude(files: FileIndex, paths: Collection[str]) -> FileIndex:
    """Return the files whose path is not among `paths`."""
    return files.take(_outside(files, paths))


def _outside(files: FileIndex, paths: Collection[str]) -> Int64[np.ndarray, " k"]:
    return np.array([i for i in range(len(files)) if files.path(i) not in paths], np.int64)
