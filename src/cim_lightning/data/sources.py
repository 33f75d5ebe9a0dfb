"""What every source of images promises, and the one that reads a folder."""

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cim_lightning.data.decode import decode
from cim_lightning.errors import SettingError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
HELD_OUT = ("val", "valid", "validation", "test")
NO_LABEL = -1


@runtime_checkable
class Source(Protocol):
    """Images by number. `source[i]` is an RGB image and its label, and raises BadImageError.

    Labels lie in 0..len(classes) - 1; NO_LABEL (-1) stands where an image has none.
    """

    @property
    def classes(self) -> list[str] | None: ...  # None: there are no labels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]: ...


class Splits(NamedTuple):
    """What is trained on and what is held out."""

    train: Source
    val: Source


def folder(root: str, val_fraction: float, seed: int) -> Splits:
    """The images in a tree of folders, at any depth; hidden names and other files are passed over.

    Splits: `train/` with the first of `val/`, `valid/`, `validation/`, `test/` that holds images, where
    both exist. Otherwise a share of `val_fraction` (in 0..1, but at least one image on either side) is
    drawn with `seed` from all the images, which may all lie in `train/`.

    Labels: the first-level folders below root (below each split) are the classes, those of `train/` for
    both splits. There are none with fewer than two such folders or with an image outside of them.

    Links to folders are followed, except one that leads to a folder it lies in. `~` is expanded.
    Raises SettingError: no such folder, no image, too few to split, a class in val that train lacks.
    """
    where = _existing(root)
    try:
        images, others = _scan(where)
    except OSError as error:
        reason = f"{str(error.filename)!r} cannot be read ({error.strerror})"
        raise SettingError(f"data.root={root!r}: {reason}; choose a folder that is readable") from error
    if not images:
        _refuse_empty(root, others)
    tops = {_top(path) for path in images}
    held_out = next((name for name in HELD_OUT if name in tops), None)
    if "train" in tops and held_out:
        return _given_splits(root, where, images, held_out)
    if tops == {"train"}:
        where, images = os.path.join(where, "train"), _below(images, "train")
    return _drawn_splits(root, where, images, val_fraction, seed)


def labelled(root: str, setting: str) -> "Files":
    """All the images of `root/<class>/...`. Raises SettingError, which names the setting that gave root."""
    where = os.path.abspath(os.path.expanduser(root))
    images = _scan(where)[0] if os.path.isdir(where) else []
    classes = _class_folders(images) if images else None
    if classes is None:
        fault = "does not exist" if not os.path.isdir(where) else "holds no two class folders of images"
        raise SettingError(f"{setting}={root}: {fault}; nearest: a folder laid out as <class>/<image>")
    return Files(where, images, _labels(images, classes), classes)


class Files:
    """A source of image files: paths relative to `root`, and an int array of their labels."""

    def __init__(self, root: str, paths: Sequence[str], labels: np.ndarray, classes: list[str] | None):
        self.classes = classes
        self._root = root
        self._labels = labels
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
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.path(index)), int(self._labels[index])


def _scan(where: str) -> tuple[list[str], Counter[str]]:
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


def _given_splits(root: str, where: str, images: list[str], held_out: str) -> Splits:
    train, val = _below(images, "train"), _below(images, held_out)
    classes = _class_folders(train)
    val_classes = None if any("/" not in path for path in val) else classes
    unknown = sorted({_top(path) for path in val}.difference(val_classes)) if val_classes else []
    if val_classes and unknown:
        nearest = difflib.get_close_matches(unknown[0], val_classes, n=1, cutoff=0)[0]
        raise SettingError(
            f"data.root={root!r}: {held_out}/ has the class {unknown[0]!r}, which train/ lacks; "
            f"the nearest class of train/ is {nearest!r}"
        )
    return Splits(
        Files(os.path.join(where, "train"), train, _labels(train, classes), classes),
        Files(os.path.join(where, held_out), val, _labels(val, val_classes), val_classes),
    )


def _drawn_splits(root: str, where: str, images: list[str], val_fraction: float, seed: int) -> Splits:
    if not 0 < val_fraction < 1:
        value, nearest = f"data.source.val_fraction={val_fraction}", 0.01 if val_fraction <= 0 else 0.99
        raise SettingError(f"{value}: it must lie between 0 and 1; try {nearest}")
    if seed < 0:
        raise SettingError(f"data.source.seed={seed}: must be 0 or more; nearest: 0")
    if len(images) < 2:
        raise SettingError(f"data.root={root!r} holds one image: it takes two for a train and a val split")
    classes = _class_folders(images)
    labels = _labels(images, classes)
    count = min(max(round(val_fraction * len(images)), 1), len(images) - 1)
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = (np.sort(order[count:]), np.sort(order[:count]))
    return Splits(*(Files(where, [images[i] for i in part], labels[part], classes) for part in chosen))


def _below(images: list[str], name: str) -> list[str]:
    return [path[len(name) + 1 :] for path in images if path.startswith(name + "/")]


def _top(path: str) -> str:
    return path.partition("/")[0]


def _class_folders(paths: list[str]) -> list[str] | None:
    names = {_top(path) for path in paths}
    flat = any("/" not in path for path in paths)
    return None if flat or len(names) < 2 else sorted(names)


def _labels(paths: list[str], classes: list[str] | None) -> np.ndarray:
    if classes is None:
        return np.full(len(paths), NO_LABEL, np.int32)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[_top(path)] for path in paths], np.int32)


def _existing(root: str) -> str:
    """The absolute path of an existing folder, `~` expanded."""
    path = os.path.abspath(os.path.expanduser(root))
    if os.path.isdir(path):
        return path
    parent, name = os.path.split(path)
    there = os.listdir(parent) if os.path.isdir(parent) else []
    siblings = [entry for entry in there if os.path.isdir(os.path.join(parent, entry))]
    close = [] if os.path.exists(path) else difflib.get_close_matches(name, siblings, n=1)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    nearest = os.path.join(parent, *close)
    fault = "is a file" if os.path.exists(path) else "does not exist"
    raise SettingError(f"data.root={root!r} {fault}: it must be a folder; the nearest is {nearest!r}")


def _refuse_empty(root: str, others: Counter[str]) -> NoReturn:
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
    raise SettingError(f"data.root={root!r} holds no image ({', '.join(SUFFIXES)}); found: {found}")
