"""Open named splits as sources of image files."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from cim_lightning.data.class_labels import LabeledFiles, label_by_folder, merge, unlabeled
from cim_lightning.data.file_index import FileIndex
from cim_lightning.data.files import closest_name
from cim_lightning.data.find_images import describe_skipped
from cim_lightning.data.image_files import ImageFiles
from cim_lightning.data.named_splits import Files, NamedSplits, descend
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.random_split import random_split
from cim_lightning.data.source import NO_LABEL, NoImages, Splits
from cim_lightning.data.split_summary import summarize
from cim_lightning.errors import ConfigError

NO_VAL = "none"  # value of `val`: no validation images

Val = TypeVar("Val")


def normalize_val(val: Val) -> Val | str:
    """Return NO_VAL for "none" in any case, and other values unchanged."""
    return NO_VAL if isinstance(val, str) and val.lower() == NO_VAL else val


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
        if len(images) == 1 and named.skipped:
            rule = "has one image of the right kind; a training and a validation split need two"
            raise ConfigError("root", root, rule, hint=describe_skipped(named.skipped, pixels.suffixes))
        parts = random_split(images.files.name_hashes, val_fraction, seed, given=root)
        images, held_out = map(images.take, parts)
    drawn = val != NO_VAL and not named.val
    return _open(images, held_out, classes, named, pixels)._replace(drawn=drawn)


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
        count = int(((val.labels == NO_LABEL) & (held_out.labels != NO_LABEL)).sum())
        unknown = ", ".join(val.unknown_classes[:5])
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
