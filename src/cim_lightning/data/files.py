"""Image files in a folder tree: list them, decode them, and derive classes from folder names."""

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.errors import ConfigError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NO_LABEL = -1


class ImageFiles:
    """A Source of image files.

    Args:
        root: folder of the images.
        paths: of the images, relative to root.
        labels: their class numbers, an int array; NO_LABEL for none.
        classes: names of the classes; None: there are no labels.
    """

    def __init__(self, root: str, paths: Sequence[str], labels: np.ndarray, classes: list[str] | None):
        self.root, self.labels, self.classes = root, labels, classes
        # One buffer, because forked workers share its pages. Reading a million str objects changes their
        # reference counts, which copies their pages into each worker.
        names = [os.fsencode(path) for path in paths]
        self._names = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])

    def path(self, index: int) -> str:
        """Return the path of an image (0 <= index < len), including root."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        name = self._names[self._ends[index] : self._ends[index + 1]]
        return os.path.join(self.root, os.fsdecode(name))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.path(index)), int(self.labels[index])


def existing_folder(root: str, parameter: str = "root") -> str:
    """Return the absolute path of a folder, with `~` expanded.

    Raises:
        ConfigError: there is no such folder; the error names `parameter`.
    """
    path = os.path.abspath(os.path.expanduser(root))
    if os.path.isdir(path):
        return path
    parent, name = os.path.split(path)
    if os.path.exists(path):
        raise ConfigError(parameter, root, "is a file, must be a folder", suggest=parent)
    siblings = [entry.name for entry in os.scandir(parent) if entry.is_dir()] if os.path.isdir(parent) else []
    hint = closest(name, siblings, os.path.join(parent, ""))
    exists = next(folder for folder in Path(path).parents if folder.is_dir())
    raise ConfigError(parameter, root, "does not exist", hint=hint or f"the path exists up to {exists}")


def closest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return a hint with the closest of possibly many names; empty if none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {prefix}{close[0]}?" if close else ""


def scan(folder: str) -> tuple[list[str], Counter[str]]:
    """List the images in a folder tree.

    Returns:
        sorted paths relative to `folder`, with "/" as the separator; how many other files have each suffix.
    """
    images: list[str] = []
    others: Counter[str] = Counter()
    waiting = [("", frozenset([_inode(folder)]))]
    while waiting:
        prefix, ancestors = waiting.pop()
        with os.scandir(os.path.join(folder, prefix)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link to itself
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()
                if is_folder:
                    inode = _inode(entry.path)
                    if inode not in ancestors:
                        waiting.append((f"{prefix}{entry.name}/", ancestors | {inode}))
                elif is_file and suffix in SUFFIXES:
                    images.append(prefix + entry.name)
                else:
                    others[suffix or "no suffix"] += 1
    return sorted(images), others


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def first_folder(path: str) -> str:
    """Return the first part of a relative path."""
    return path.partition("/")[0]


def class_folders(paths: list[str]) -> list[str] | None:
    """Return the first-level folders; None if there are fewer than two, or if an image is outside them."""
    names = {first_folder(path) for path in paths}
    flat = any("/" not in path for path in paths)
    return None if flat or len(names) < 2 else sorted(names)


def labeled(root: str, paths: list[str], classes: list[str] | None) -> ImageFiles:
    """Return images with the class numbers of their first-level folders; NO_LABEL without classes."""
    if classes is None:
        return ImageFiles(root, paths, np.full(len(paths), NO_LABEL, np.int32), None)
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([numbers[first_folder(path)] for path in paths], np.int32)
    return ImageFiles(root, paths, labels, classes)
