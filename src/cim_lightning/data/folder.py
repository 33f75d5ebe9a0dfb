"""The folder source: images in folders or lists, split by names or at random."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence

from cim_lightning.data.class_labels import LabeledFiles, label_by_folder, merge, unlabeled
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.files import closest_name
from cim_lightning.data.find_images import find_images
from cim_lightning.data.given_path import GivenPath
from cim_lightning.data.given_splits import given_splits
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.named_splits import Files, NamedSplits, descend, split_by_name
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.random_split import random_split
from cim_lightning.data.source import NO_LABEL, NoImages, Splits
from cim_lightning.data.split_summary import summarize
from cim_lightning.errors import ConfigError, format_value

NO_VAL = "none"  # value of `val`: no validation images


def folder(
    root: str | Sequence[str],
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
    train: str | Sequence[str] | None = None,
    val: str | Sequence[str] | None = None,
) -> Splits:
    """Images in folder trees, at any depth, or in lists of files.

    Splits: folders such as `train` and `validation` (see split_names), or the column "split" of a list.
    Otherwise, the validation images are drawn at random from all images.

    Labels: the first-level folders below root, or below the training folder, are the classes, or the column
    "label" of a list. With fewer than two classes there are no labels. Validation images of a class that the
    training images lack have no label.

    Args:
        root: a folder, a list (see file_list), a glob, or several of them. `~` is expanded.
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        seed: of the random split.
        pixels: format of the images.
        train, val: of the same kinds as root, and relative to it or to the working directory; null: found by
            name. `train=.` uses all images, and `val=none` no validation images. Validation images are left
            out of the training images.

    Raises:
        ConfigError: a path does not exist or has too few images; or folders look like splits, but have other
            names.
    """
    roots = _paths("root", root) or []
    _check_disjoint(roots)
    if train is None and val in (None, NO_VAL):
        named = _by_name(roots, pixels)
    else:
        named = given_splits(roots, _paths("train", train), _paths("val", val), pixels.suffixes)
    return open_splits(named, root, val, val_fraction, seed, pixels)


def open_splits(
    named: NamedSplits,
    root: str | Sequence[str],
    val: str | Sequence[str] | None,
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
) -> Splits:
    """Return the images of named splits; if nothing is named for validation, draw its images at random.

    Args:
        root, val, val_fraction, seed, pixels: see folder.

    Raises:
        ConfigError: there are too few images.
    """
    images = merge(
        [label_by_folder(files) if isinstance(files, FileIndex) else files for files in named.train]
    )
    if not len(images):
        raise ConfigError(
            "val", val, "has all images of the training split", hint="try val=none, or another train"
        )
    classes = images.classes if len(images.classes) > 1 else []
    held_out = None
    if val != NO_VAL and named.val:
        held_out = merge([_label_val(files, classes) for files in named.val])
    elif val != NO_VAL:
        parts = random_split(len(images), val_fraction, seed, given=root)
        images, held_out = map(images.take, parts)
    return _open(images, held_out, classes, named, pixels)


def _paths(parameter: str, value: str | Sequence[str] | None) -> list[GivenPath] | None:
    if value is None or value == NO_VAL:
        return None if value is None else []
    paths = [value] if isinstance(value, str) else [str(path) for path in value]
    if not paths:
        raise ConfigError(parameter, value, "has no path", hint="name a folder")
    return [GivenPath(parameter, value, path) for path in paths]


def _by_name(roots: Sequence[GivenPath], pixels: PixelFormat) -> NamedSplits:
    """Return the splits of all roots. If some have validation images, the others are for training only."""
    found = []
    for root in roots:
        listing = find_images(root, pixels.suffixes)
        named = split_by_name(listing, root)
        found.append(named._replace(skipped=listing.skipped + named.skipped))
    if len(found) == 1:
        return found[0]
    train = [files for named in found for files in named.train]
    val = [files for named in found for files in named.val]
    return NamedSplits(train, val, skipped=sum((named.skipped for named in found), Counter()))


def _check_disjoint(roots: Sequence[GivenPath]) -> None:
    """Require roots that do not contain each other, whose images would be there twice."""
    paths = [root.path for root in roots]
    real = [os.path.realpath(os.path.expanduser(path)) for path in paths]
    for outer, inner in itertools.permutations(range(len(paths)), 2):
        if f"{real[inner]}/".startswith(f"{real[outer]}/"):
            rule = f"the images of {paths[inner]} are in {paths[outer]}, too"
            hint = f"try root={format_value([*paths[:inner], *paths[inner + 1 :]])}"
            raise ConfigError("root", paths, rule, hint=hint)


def _label_val(files: Files, classes: Sequence[str]) -> LabeledFiles:
    """Label validation images by their folders, which are below the folders that have all of them."""
    if isinstance(files, LabeledFiles):
        return files
    if not classes:
        return unlabeled(files)
    if not set(files.first_folders()[1]) & set(classes):
        files, _ = descend(files)
    return label_by_folder(files, min_classes=1)


def _open(
    images: LabeledFiles,
    held_out: LabeledFiles | None,
    classes: Sequence[str],
    named: NamedSplits,
    pixels: PixelFormat,
) -> Splits:
    notes = [f"no labels, because {images.why_unlabeled}"] if images.why_unlabeled else []
    train, skipped = _source(images, classes, pixels), named.skipped + images.skipped
    if held_out is None:
        unused = Counter({f"in {named.val_name}": sum(map(len, named.val))})
        return Splits(
            train, NoImages(), summarize(train, NoImages(), skipped + unused, named.train_name, "", notes)
        )
    val = _source(held_out, classes, pixels)
    if val.unknown_classes:
        count, unknown = int((val.labels == NO_LABEL).sum()), ", ".join(val.unknown_classes[:5])
        hint = closest_name(val.unknown_classes[0], classes)
        note = f"{count:,} for validation have no label, as there are no training images of {unknown}"
        notes.append(f"{note} ({hint})" if hint else note)
    if named.val:  # otherwise, both are parts of the same images
        skipped = skipped + held_out.skipped
    return Splits(train, val, summarize(train, val, skipped, named.train_name, named.val_name, notes))


def _source(images: LabeledFiles, classes: Sequence[str], pixels: PixelFormat) -> ImageFiles:
    known = images.with_classes(classes)
    unknown = sorted(set(images.classes) - set(classes)) if classes else []
    has_labels = bool(classes) and bool(images.classes)
    return ImageFiles(images.files, known.labels, list(classes) if has_labels else None, pixels, unknown)
