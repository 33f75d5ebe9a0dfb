"""What every source of images promises, and the one that reads a folder."""

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cim_lightning.data.files import SUFFIXES, ImageFiles, class_folders, labels_of, scan, top
from cim_lightning.errors import ConfigError

VAL_FOLDERS = ("val", "valid", "validation", "test")


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


class Some:
    """Some images of a source, by their numbers there."""

    def __init__(self, source: Source, images: Sequence[int]):
        self.classes = source.classes
        self._source, self._images = source, images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self._source[self._images[index]]


def folder(root: str, val_fraction: float, seed: int) -> Splits:
    """The images in a tree of folders, at any depth; hidden names and other files are passed over.

    Splits: `train/` with the first of `val/`, `valid/`, `validation/`, `test/` that holds images, where
    both exist. Otherwise a share of `val_fraction` (in 0..1, but at least one image on either side) is
    drawn with `seed` from all the images, which may all lie in `train/`.

    Labels: the first-level folders below root (below each split) are the classes, those of `train/` for
    both splits. There are none with fewer than two such folders or with an image outside of them.

    Links to folders are followed, except one that leads to a folder it lies in. `~` is expanded.
    Raises ConfigError: no such folder, no image, too few to split, a class in val that train lacks.
    """
    where = _existing(root)
    try:
        images, others = scan(where)
    except OSError as error:
        reason = f"{str(error.filename)!r} cannot be read ({error.strerror})"
        raise ConfigError(f"data.root={root!r}: {reason}; choose a folder that is readable") from error
    if not images:
        _refuse_empty(root, others)
    tops = {top(path) for path in images}
    held_out = next((name for name in VAL_FOLDERS if name in tops), None)
    if "train" in tops and held_out:
        return _given_splits(root, where, images, held_out)
    if tops == {"train"}:
        where, images = os.path.join(where, "train"), _below(images, "train")
    return _drawn_splits(root, where, images, val_fraction, seed)


def _given_splits(root: str, where: str, images: list[str], held_out: str) -> Splits:
    train, val = _below(images, "train"), _below(images, held_out)
    classes = class_folders(train)
    val_classes = None if any("/" not in path for path in val) else classes
    unknown = sorted({top(path) for path in val}.difference(val_classes)) if val_classes else []
    if val_classes and unknown:
        nearest = difflib.get_close_matches(unknown[0], val_classes, n=1, cutoff=0)[0]
        raise ConfigError(
            f"data.root={root!r}: {held_out}/ has the class {unknown[0]!r}, which train/ lacks; "
            f"the nearest class of train/ is {nearest!r}"
        )
    return Splits(
        ImageFiles(os.path.join(where, "train"), train, labels_of(train, classes), classes),
        ImageFiles(os.path.join(where, held_out), val, labels_of(val, val_classes), val_classes),
    )


def _drawn_splits(root: str, where: str, images: list[str], val_fraction: float, seed: int) -> Splits:
    if not 0 < val_fraction < 1:
        value, nearest = f"data.source.val_fraction={val_fraction}", 0.01 if val_fraction <= 0 else 0.99
        raise ConfigError(f"{value}: it must lie between 0 and 1; try {nearest}")
    if seed < 0:
        raise ConfigError(f"data.source.seed={seed}: must be 0 or more; try 0")
    if len(images) < 2:
        raise ConfigError(f"data.root={root!r} holds one image: it takes two for a train and a val split")
    classes = class_folders(images)
    labels = labels_of(images, classes)
    count = min(max(round(val_fraction * len(images)), 1), len(images) - 1)
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = (np.sort(order[count:]), np.sort(order[:count]))
    return Splits(*(ImageFiles(where, [images[i] for i in part], labels[part], classes) for part in chosen))


def _below(images: list[str], name: str) -> list[str]:
    return [path[len(name) + 1 :] for path in images if path.startswith(name + "/")]


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
    raise ConfigError(f"data.root={root!r} {fault}: it must be a folder; the nearest is {nearest!r}")


def _refuse_empty(root: str, others: Counter[str]) -> NoReturn:
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
    raise ConfigError(f"data.root={root!r} holds no image ({', '.join(SUFFIXES)}); found: {found}")
