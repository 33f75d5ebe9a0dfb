"""Image files in a folder tree: list them, decode them, and derive classes from folder names."""

import contextlib
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
    """A Source of image files, labeled by their first-level folders.

    Args:
        root: folder of the images.
        paths: of the images, relative to root.
        classes: names of the first-level folders, in the order of the labels; None: no image has a label.
    """

    def __init__(self, root: str, paths: Sequence[str], classes: list[str] | None):
        numbers = {name: i for i, name in enumerate(classes or ())}
        self.labels = np.array([numbers.get(first_folder(path), NO_LABEL) for path in paths], np.int32)
        self.root, self.classes = root, classes
        # An array, because forked workers share its pages. Pages of str objects are copied into each worker
        # when their reference counts change.
        self._paths = np.array([os.fsencode(path) for path in paths])

    def path(self, index: int) -> str:
        """Return the path of an image (0 <= index < len), including root."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return os.path.join(self.root, os.fsdecode(self._paths[index]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.path(index)), int(self.labels[index])


def existing_folder(root: str, parameter: str = "root") -> str:
    """Return the absolute path of a folder, with `~` expanded.

    Raises:
        ConfigError: there is no such folder; the error names `parameter`.
    """
    path = Path(os.path.abspath(os.path.expanduser(root)))
    if path.is_dir():
        return str(path)
    if path.exists():
        raise ConfigError(parameter, root, "is a file, must be a folder", suggest=path.parent)
    exists = next(folder for folder in path.parents if folder.is_dir())
    hint = closest_name(path.name, [folder.name for folder in path.parent.glob("*/")], f"{path.parent}/")
    raise ConfigError(parameter, root, "does not exist", hint=hint or f"the path exists up to {exists}")


def closest_name(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return a hint with the closest of possibly many names; empty if none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {prefix}{close[0]}?" if close else ""


def scan(folder: str) -> tuple[list[str], Counter[str]]:
    """List the images in a folder tree.

    Returns:
        Sorted paths relative to `folder`, with "/" as the separator, and the number of other files by suffix.
    """
    images: list[str] = []
    others: Counter[str] = Counter()
    pending = [("", frozenset([os.path.realpath(folder)]))]
    while pending:
        prefix, ancestors = pending.pop()
        with os.scandir(os.path.join(folder, prefix)) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # a link to itself is neither a folder nor a file
                    path = os.path.realpath(entry.path) if entry.is_dir() else ""
                    suffix = os.path.splitext(entry.name)[1].lower()
                    if entry.name.startswith(".") or path in ancestors:
                        continue
                    if path:
                        pending.append((f"{prefix}{entry.name}/", ancestors | {path}))
                    elif suffix in SUFFIXES and entry.is_file():
                        images.append(prefix + entry.name)
                    else:
                        others[suffix or "no suffix"] += 1
    return sorted(images), others


def first_folder(path: str) -> str:
    """Return the first part of a relative path."""
    return path.partition("/")[0]


def class_folders(paths: list[str]) -> list[str] | None:
    """Return the first-level folders; None if there are fewer than two, or if an image is outside them."""
    names = {first_folder(path) for path in paths}
    flat = any("/" not in path for path in paths)
    return None if flat or len(names) < 2 else sorted(names)
