"""Image files in a tree of folders: finding them, reading them, and the classes that folders give."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.errors import ConfigError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NO_LABEL = -1


class ImageFiles:
    """A source of image files: paths relative to `root`, and an int array of their labels."""

    def __init__(self, root: str, paths: Sequence[str], labels: np.ndarray, classes: list[str] | None):
        self.classes = classes
        self.labels = labels
        self._root = root
        # All paths in one buffer: forked workers share its pages, whereas reading a million strings
        # writes their reference counts and so copies them, in each worker, bit by bit.
        names = [os.fsencode(path) for path in paths]
        self._names = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])

    def path(self, index: int) -> str:
        """The path of an image (0 <= index < len), root included."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        name = self._names[self._ends[index] : self._ends[index + 1]]
        return os.path.join(self._root, os.fsdecode(name))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.path(index)), int(self.labels[index])


def scan(where: str) -> tuple[list[str], Counter[str]]:
    """Sorted relative paths ("/" between names) of the images, and how many other files of which suffix."""
    images: list[str] = []
    others: Counter[str] = Counter()
    waiting = [("", frozenset([_identity(where)]))]
    while waiting:
        prefix, above = waiting.pop()
        with os.scandir(os.path.join(where, prefix)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link that leads to itself
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()
                if is_folder:
                    identity = _identity(entry.path)
                    if identity not in above:
                        waiting.append((f"{prefix}{entry.name}/", above | {identity}))
                elif is_file and suffix in SUFFIXES:
                    images.append(prefix + entry.name)
                else:
                    others[suffix or "no suffix"] += 1
    return sorted(images), others


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def top(path: str) -> str:
    """The first name in a relative path."""
    return path.partition("/")[0]


def class_folders(paths: list[str]) -> list[str] | None:
    """Names of the first-level folders; None with fewer than two, or with an image outside of them."""
    names = {top(path) for path in paths}
    flat = any("/" not in path for path in paths)
    return None if flat or len(names) < 2 else sorted(names)


def labels_of(paths: list[str], classes: list[str] | None) -> np.ndarray:
    """Numbers of the images' classes, by their first-level folders; NO_LABEL without classes."""
    if classes is None:
        return np.full(len(paths), NO_LABEL, np.int32)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[top(path)] for path in paths], np.int32)


def labeled(root: str, setting: str) -> ImageFiles:
    """All the images of `root/<class>/...`. Raises ConfigError, which names the setting that gave root."""
    where = os.path.abspath(os.path.expanduser(root))
    images = scan(where)[0] if os.path.isdir(where) else []
    classes = class_folders(images) if images else None
    if classes is None:
        fault = "does not exist" if not os.path.isdir(where) else "holds no two class folders of images"
        raise ConfigError(f"{setting}={root}: {fault}; try a folder laid out as <class>/<image>")
    return ImageFiles(where, images, labels_of(images, classes), classes)
