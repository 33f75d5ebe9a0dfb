"""Check images with masks before a training starts: sizes, labels, and a labeled pixel of each class."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from tqdm import tqdm

from cim_lightning.data.mask_files import IGNORE_INDEX, UNKNOWN, ImageMaskFiles
from cim_lightning.data.segmentation import SegmentationSplits
from cim_lightning.errors import ConfigError

THREADS = 4
MIN_MASKS = 100  # masks of each split whose pixels are read at least
NAMES = 5  # classes and values that a message lists

log = logging.getLogger("cim_lightning")


def check_masks(splits: SegmentationSplits) -> None:
    """Check the files of a data set; other sources of masks need no check.

    The headers of all files are read, and the pixels of random masks, until each class has been found. The
    result is cached in this process.

    Raises:
        ConfigError: a mask is invalid or has another size than its image, or a class has no training pixel.
    """
    train, val = splits.train, splits.val
    if isinstance(train, ImageMaskFiles) and isinstance(val, ImageMaskFiles):
        classes = (train.class_of.tobytes(), tuple(splits.classes))
        _check(train.root, tuple(train.pairs), tuple(val.pairs), *classes)


@lru_cache(maxsize=2)
def _check(
    root: str,
    train_pairs: tuple[tuple[str, str], ...],
    val_pairs: tuple[tuple[str, str], ...],
    class_of: bytes,
    classes: tuple[str, ...],
) -> None:
    table = np.frombuffer(class_of, np.uint8)
    train, val = (ImageMaskFiles(root, pairs, table) for pairs in (train_pairs, val_pairs))
    with ThreadPoolExecutor(THREADS) as pool:
        _check_sizes(train, val, pool)
        wanted = np.flatnonzero(table < UNKNOWN)
        pixels = _count(train, wanted, pool)
        if not pixels[wanted].all():
            raise _missing_class(train, classes, pixels)
        if not _count(val, wanted[:0], pool)[wanted].any():
            raise ConfigError(
                "root", root, "has only ignored labels in its validation masks", hint="check ignore"
            )


def _check_sizes(train: ImageMaskFiles, val: ImageMaskFiles, pool: ThreadPoolExecutor) -> None:
    for files in (train, val):
        certain = [*_progress(pool.map(files.check_size, range(len(files))), len(files), "sizes of masks")]
        if not all(certain):
            path = files.pairs[certain.index(False)][0]
            count = f"{certain.count(False)} images, such as {path}"
            log.warning(
                "%s: EXIF turns %s; their masks must be drawn on the turned images", files.root, count
            )


def _count(files: ImageMaskFiles, wanted: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """Return the pixels of each label in MIN_MASKS random masks, or in more until all wanted labels occur."""
    order = np.random.default_rng(0).permutation(len(files)).tolist()
    pixels, unlabeled = np.zeros(256, np.int64), []
    ignored = files.class_of == IGNORE_INDEX
    for start in _progress(range(0, len(order), MIN_MASKS), -(-len(order) // MIN_MASKS), "masks"):
        part = order[start : start + MIN_MASKS]
        for index, counts in zip(part, pool.map(partial(_histogram, files), part), strict=True):
            pixels += counts
            if not counts[~ignored].any():
                unlabeled.append(files.pairs[index][1])
        if pixels[wanted].all() and pixels[~ignored].any():
            break
    if unlabeled and pixels[~ignored].any():
        count = f"{len(unlabeled)} masks have only ignored labels, such as {unlabeled[0]}"
        log.warning("%s: %s", files.root, count)
    return pixels


def _histogram(files: ImageMaskFiles, index: int) -> np.ndarray:
    return np.bincount(files.labels(index).ravel(), minlength=256)


def _missing_class(train: ImageMaskFiles, classes: tuple[str, ...], pixels: np.ndarray) -> ConfigError:
    labels = [int(label) for label in np.flatnonzero(train.class_of < UNKNOWN) if not pixels[label]]
    names = ", ".join(f"{classes[train.class_of[label]]} (label {label})" for label in labels[:NAMES])
    more = f" and {len(labels) - NAMES} more" if len(labels) > NAMES else ""
    values, ignored = np.flatnonzero(pixels), train.class_of == IGNORE_INDEX
    found = ", ".join(map(str, values[:NAMES])) + (", ..." if len(values) > NAMES else "")
    rule = f"has no training pixel of {names}{more}; its {len(train)} masks have the values {found}"
    if any(ignored[values]):
        rule += f", of which {', '.join(map(str, values[ignored[values]]))} is ignored"
    hint, num_found = "list the labels of the masks in classes.txt", len(classes) - len(labels)
    if num_found > 1:
        without = ", ".join(map(str, sorted({*np.flatnonzero(ignored).tolist(), *labels})))
        hint += f", or try ignore=[{without}]"
    elif num_found == 1 and any(ignored[values]):  # masks of 0 and 255
        name, label = classes[train.class_of[labels[0]]], values[ignored[values]][0]
        kept = ", ".join(str(label) for label in np.flatnonzero(ignored) if not pixels[label])
        hint += f", such as {label} {name}, with ignore=[{kept}]"
    return ConfigError("root", train.root, rule, hint=hint)


def _progress(items: Any, total: int, what: str) -> Any:
    """Return the items with a progress bar on a terminal, if they take long."""
    return tqdm(items, what, total, leave=False, disable=None, delay=2)
