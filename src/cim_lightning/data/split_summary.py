"""The one-line summary of the images of a data set."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cim_lightning.data.source import NO_LABEL, Source


def summarize(
    train: Source,
    val: Source,
    skipped: Counter[str],
    train_name: str = "",
    val_name: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Return what was found, used and skipped.

    For example, "24,310 images in 37 classes (23,094 for training, 1,216 for validation); skipped: 12 .txt".

    Args:
        skipped: number of skipped files by reason.
        train_name, val_name: where the images come from, such as a folder; "" if there is nothing to say.
        notes: further remarks.
    """
    labels = f"in {len(train.classes)} classes" if train.classes else "without labels"
    unlabeled = np.count_nonzero(getattr(train, "labels", np.zeros(0)) == NO_LABEL) if train.classes else 0
    parts = [_part(train, "training", train_name), _part(val, "validation", val_name)]
    if unlabeled:
        parts.insert(1, f"{unlabeled:,} of them without a label")
    counts = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    remarks = [*notes, *([f"skipped: {counts}"] if counts else [])]
    line = "; ".join([f"{len(train) + len(val):,} images {labels} ({', '.join(parts)})", *remarks])
    return "".join(c if c.isprintable() else "?" for c in line)  # names of files may have any characters


def _part(source: Source, purpose: str, name: str) -> str:
    count = f"{len(source):,}" if len(source) else "none"
    return f"{count} for {purpose}{f' from {name}' if name else ''}"
