"""Images with masks for semantic segmentation; `segmentation_layouts.py` finds their files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cim_lightning.data.decode import FORMATS, decode
from cim_lightning.errors import BadImageError, ConfigError

IGNORE_INDEX = 255  # value of ignored pixels in masks; the files may use another label
UNKNOWN = 254  # value of labels that are neither a class nor ignored


@runtime_checkable
class MaskSource(Protocol):
    """A map-style data set of images and masks.

    `source[i]` returns an RGB image and a uint8 mask "h w" of the same size. The values of a mask are class
    numbers, or IGNORE_INDEX. The sizes of the images may differ.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]: ...


@dataclass(eq=False)
class ImageMaskFiles:
    """A MaskSource of image files.

    `files[i]` raises ConfigError if a file cannot be read, if the sizes of image and mask differ, or if the
    mask is not a label image or has an unknown label.
    """

    root: str  # folder of the data set
    pairs: Sequence[tuple[str, str]]  # paths of image and mask, relative to root
    class_of: UInt8[np.ndarray, "256"]  # label in the files -> class number, IGNORE_INDEX or UNKNOWN

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        image_path, mask_path = self.pairs[index]
        folder = Path(self.root).expanduser()
        try:
            image = decode(folder / image_path)
        except BadImageError as error:
            raise self._error(str(error), "replace the file, or remove it from its list") from error
        labels = self._labels(folder, mask_path)
        if labels.shape != (image.height, image.width):
            height, width = labels.shape
            sizes = f"{mask_path} is {width}x{height}, but {image_path} is {image.width}x{image.height}"
            raise self._error(sizes, "resize the mask with nearest-neighbor interpolation")
        mask = self.class_of[labels]
        if (mask == UNKNOWN).any():
            label = int(labels[mask == UNKNOWN].min())
            known = np.flatnonzero(self.class_of < UNKNOWN)
            rule = f"{mask_path} has the label {label}, which is not a class ({known.min()}..{known.max()})"
            raise self._error(rule, f"try ignore=[{label}]")
        return image, mask

    def _labels(self, folder: Path, path: str) -> UInt8[np.ndarray, "h w"]:
        try:
            with Image.open(folder / path, formats=FORMATS) as mask:
                mode, labels = mask.mode, np.asarray(mask)
        except Exception as error:  # damaged files cause nearly any exception in Pillow
            rule = f"{path} cannot be read ({' '.join(str(error).split())})"
            raise self._error(rule, "replace the file, or remove it from its list") from error
        if mode not in ("L", "P", "1"):
            rule = f"{path} has mode {mode}, but a mask has one class number per pixel"
            raise self._error(rule, "try an 8-bit gray or palette PNG")
        return labels.astype(np.uint8)

    def _error(self, rule: str, hint: str) -> ConfigError:
        return ConfigError("root", self.root, rule, hint=hint)


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
