"""Images with masks for semantic segmentation; `segmentation_layouts.py` finds their files."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cim_lightning.data.mask_files import IGNORE_INDEX, UNKNOWN, ImageMaskFiles
from cim_lightning.errors import ConfigError

__all__ = [
    "IGNORE_INDEX",
    "ImageMaskFiles",
    "MaskSource",
    "OpenSegmentationData",
    "SegmentationSplits",
    "make_splits",
    "open_splits",
]


@runtime_checkable
class MaskSource(Protocol):
    """A map-style data set of images and masks.

    `source[i]` returns an RGB image and a uint8 mask "h w" of the same size. The values of a mask are class
    numbers, or IGNORE_INDEX. The sizes of the images may differ.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]: ...


class SegmentationSplits(NamedTuple):
    """Training and validation pairs, and the names of the classes."""

    train: MaskSource
    val: MaskSource
    classes: list[str]


# Opens the images and masks of a data set, such as a `partial` of a layout in segmentation_layouts.py.
OpenSegmentationData = Callable[[], SegmentationSplits]


def open_splits(source: OpenSegmentationData | None) -> SegmentationSplits:
    """Open the images and masks. Raise ConfigError if there is no source."""
    if source is None:
        raise ConfigError("source", None, "must have images with masks", hint="choose a data set")
    return source()


def make_splits(
    root: str, pairs: Sequence[Sequence[tuple[str, str]]], names: Mapping[int, str], ignore: Sequence[int]
) -> SegmentationSplits:
    """Number the classes from 0, without the ignored labels, and return the splits.

    Args:
        root, pairs: see ImageMaskFiles; the pairs of the training and of the validation split.
        names: of the classes, by label in the files.
        ignore: labels in the files that are excluded from loss and metrics.

    Raises:
        ConfigError: a label of more than 8 bits, or fewer than two classes.
    """
    for parameter, value, labels in (("ignore", list(ignore), ignore), ("root", root, names)):
        if wrong := [label for label in labels if not 0 <= label <= 255]:
            raise ConfigError(
                parameter, value, f"label {wrong[0]} must be in 0..255", hint="use 8-bit labels"
            )
    classes = {label: name for label, name in sorted(names.items()) if label not in ignore}
    if not 2 <= len(classes) < UNKNOWN:
        rule = f"leaves {len(classes)} classes, must leave 2..{UNKNOWN - 1}"
        raise ConfigError("ignore", list(ignore), rule, suggest=[])
    class_of = np.full(256, UNKNOWN, np.uint8)
    class_of[list(classes)] = np.arange(len(classes))
    class_of[list(ignore)] = IGNORE_INDEX
    train, val = (ImageMaskFiles(root, split, class_of) for split in pairs)
    return SegmentationSplits(train, val, list(classes.values()))
