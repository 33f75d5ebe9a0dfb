"""The source that reads Hugging Face data sets: of the Hub, or local Parquet, Arrow and image files."""

from collections import Counter

import numpy as np
from jaxtyping import Int64, UInt64

from cim_lightning.checks import check_at_least, check_share, did_you_mean
from cim_lightning.data.class_labels import renumber
from cim_lightning.data.hf_columns import Columns, read_columns
from cim_lightning.data.hf_images import HFImages, row_keys
from cim_lightning.data.hf_loading import load_splits
from cim_lightning.data.open_splits import NO_VAL, normalize_val
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.random_split import random_split
from cim_lightning.data.source import NO_LABEL, NoImages, Source, Splits
from cim_lightning.data.split_names import find_train, find_val
from cim_lightning.data.split_summary import summarize
from cim_lightning.errors import ConfigError


def hf(
    name: str,
    config: str | None,
    revision: str | None,
    image_column: str | None,
    label_column: str | None,
    train: str | None,
    val: str | None,
    val_fraction: float,
    seed: int,
    pixels: PixelFormat,
) -> Splits:
    """Images of a Hugging Face data set, in the order of its rows.

    Splits: those named for training and validation (see split_names). If there is no split for validation,
    its images are drawn at random from the training images.

    Args:
        name: OWNER/NAME on the Hub; a local Parquet or Arrow file; or a local folder of such files, of
            images, or of `save_to_disk`.
        config: of a data set with several.
        revision: branch, tag or commit on the Hub.
        image_column: null: the first one of the type Image, or else of bytes.
        label_column: null: the first one of the type ClassLabel, or else one named "label", "labels"
            or "cls".
        train, val: names of splits; null: found by name. `val=none`: no validation images.
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        seed: of the random split.
        pixels: format of the images.

    Raises:
        ConfigError: the data set cannot be loaded, or has no such split or column, or too few images.
    """
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    val = normalize_val(val)
    found = load_splits(name, config, revision)
    train_name, val_name = _split_names([split for split in found if len(found[split])], train, val)
    train_columns = read_columns(found[train_name], image_column, label_column)
    used = {train_name, val_name}
    skipped = Counter({f"of {split}": len(part) for split, part in found.items() if split not in used})
    rows, val_rows = np.arange(len(train_columns.labels)), None
    keys = row_keys(train_columns.dataset, train_columns.images, name)
    if val is None and val_name is None:
        rows, val_rows = random_split(keys, val_fraction, seed, "name", name)
    classes = train_columns.classes if len(train_columns.classes) > 1 else []
    images = _open(train_columns, rows, keys, classes, pixels, f"{name} ({train_name})")
    held_out: Source = NoImages()
    if val_name is not None:
        columns = read_columns(found[val_name], image_column, label_column)
        val_keys = row_keys(columns.dataset, columns.images, name)
        held_out = _open(columns, np.arange(len(val_keys)), val_keys, classes, pixels, f"{name} ({val_name})")
    elif val_rows is not None:
        held_out = _open(train_columns, val_rows, keys, classes, pixels, images.name)
    columns = ", ".join(filter(None, (train_columns.images, train_columns.label_column)))
    notes = [f"columns: {columns}"]
    summary = summarize(images, held_out, +skipped, train_name, val_name or "", notes)
    return Splits(images, held_out, summary, drawn=val_rows is not None)


def _split_names(names: list[str], train: str | None, val: str | None) -> tuple[str, str | None]:
    """Return the names of the splits for training and for validation."""
    for parameter, given in (("train", train), ("val", val)):
        if given is not None and given not in names and (parameter, given) != ("val", NO_VAL):
            raise ConfigError(parameter, given, "no such split", hint=did_you_mean(given, names))
    train = train or find_train(names) or (names[0] if len(names) == 1 else None)
    if train is None:
        rule = f"none of the splits {', '.join(names)} is named for training" if names else "has no images"
        raise ConfigError("train", None, rule, hint=f"try train={names[0]}" if names else "")
    if train == val:
        raise ConfigError("val", val, "is the training split", suggest=NO_VAL)
    other_names = [name for name in names if name != train]
    return train, find_val(other_names) if val is None else None if val == NO_VAL else val


def _open(
    columns: Columns,
    rows: Int64[np.ndarray, " n"],
    keys: UInt64[np.ndarray, " m"],
    classes: list[str],
    pixels: PixelFormat,
    name: str,
) -> HFImages:
    """Return the images of some rows, labeled with the classes of the training images.

    Args:
        keys: of all rows.
    """
    used = {columns.classes[label] for label in np.unique(columns.labels[rows]) if label != NO_LABEL}
    labels = renumber(columns.labels[rows], columns.classes, classes)
    known = classes if used and classes else None
    unknown = sorted(used - set(classes)) if classes else []
    return HFImages(columns.dataset, columns.images, rows, keys[rows], labels, known, pixels, name, unknown)
