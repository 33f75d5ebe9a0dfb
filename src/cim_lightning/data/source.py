"""The Source protocol, and the source that reads a folder of images."""

import os
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.data import files
from cim_lightning.errors import ConfigError

VAL_FOLDERS = ("val", "valid", "validation", "test")


@runtime_checkable
class Source(Protocol):
    """A map-style data set: `source[i]` returns an RGB image and its label, or raises BadImageError.

    Labels are in 0..len(classes) - 1, or NO_LABEL (-1). A source with some unlabeled images also has the
    attribute `labels`, an int array.
    """

    @property
    def classes(self) -> list[str] | None: ...  # None: there are no labels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]: ...


class Splits(NamedTuple):
    """Training and validation images."""

    train: Source
    val: Source


def folder(root: str, val_fraction: float, seed: int) -> Splits:
    """Images in a folder tree, at any depth. Hidden files and other files are ignored.

    Splits: `train/` and the first of `val/`, `valid/`, `validation/` and `test/` that has images. If one of
    the two is missing, the validation images are drawn at random from all images.

    Labels: the first-level folders below root, or below `train/`, are the classes of both splits. With fewer
    than two of them, or with an image outside them, there are no labels.

    Args:
        root: the folder, with `~` expanded. Links to folders are followed, unless they lead into a cycle.
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        seed: of the random split.

    Raises:
        ConfigError: the folder does not exist, has too few images, or `train/` lacks a class of `val/`.
    """
    path = files.existing_folder(root)
    try:
        images, others = files.scan(path)
    except OSError as error:
        rule = f"{str(error.filename)!r} cannot be read ({error.strerror})"
        raise ConfigError("root", root, rule, hint="choose a readable folder") from error
    if not images:
        found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
        raise ConfigError("root", root, f"has no image ({', '.join(files.SUFFIXES)})", hint=f"found: {found}")
    folders = {files.first_folder(image) for image in images}
    val_folder = next((name for name in VAL_FOLDERS if name in folders), None)
    if "train" in folders and val_folder:
        return _existing_splits(root, path, images, val_folder)
    if folders == {"train"}:
        path, images = os.path.join(path, "train"), _below("train", images)
    return _random_splits(root, path, images, val_fraction, seed)


def _existing_splits(root: str, path: str, images: list[str], val_folder: str) -> Splits:
    train, val = _below("train", images), _below(val_folder, images)
    classes = files.class_folders(train)
    val_classes = None if any("/" not in image for image in val) else classes
    unknown = sorted({files.first_folder(image) for image in val}.difference(val_classes or ()))
    if val_classes and unknown:
        rule = f"{val_folder}/ has the class {unknown[0]}, which train/ lacks"
        raise ConfigError("root", root, rule, hint=files.closest_name(unknown[0], val_classes))
    return Splits(
        files.ImageFiles(os.path.join(path, "train"), train, classes),
        files.ImageFiles(os.path.join(path, val_folder), val, val_classes),
    )


def _random_splits(root: str, path: str, images: list[str], val_fraction: float, seed: int) -> Splits:
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    if len(images) < 2:
        raise ConfigError("root", root, "has one image; a training and a validation split need two")
    classes = files.class_folders(images)
    num_val = min(max(round(val_fraction * len(images)), 1), len(images) - 1)
    order = np.random.default_rng(seed).permutation(len(images))
    train, val = ([images[i] for i in np.sort(part)] for part in (order[num_val:], order[:num_val]))
    return Splits(files.ImageFiles(path, train, classes), files.ImageFiles(path, val, classes))


def _below(name: str, images: list[str]) -> list[str]:
    """Return the images in a first-level folder, relative to it."""
    return [image[len(name) + 1 :] for image in images if image.startswith(name + "/")]
