"""Images with index masks, for semantic segmentation; `mask_layouts.py` finds their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cim_lightning.data.decode import FORMATS, decode
from cim_lightning.errors import BadImageError, ConfigError

SETTING = "evaluation.segmentation.source"
IGNORED = 255  # in the masks that leave this file, whatever a data set writes
UNKNOWN = 254  # a label that is neither a class nor ignored


class ImageMaskFiles:
    """Pairs of an image and its mask, by number.

    `files[i]` is an RGB image and a uint8 mask "h w" of its size, whose values are class numbers
    0..len(classes) - 1 and IGNORED (255).

    Args:
        root: the folder below which the pairs lie, for messages.
        pairs: paths of image and mask, relative to root.
        table: what each of the labels 0..255 in the files becomes.

    Raises:
        ConfigError: on access, a file cannot be read, a mask has another size than its image, is no index
            image, or holds a label that is neither a class nor ignored.
    """

    def __init__(self, root: Path, pairs: Sequence[tuple[str, str]], table: UInt8[np.ndarray, "256"]):
        self.root, self.pairs, self._table = root, list(pairs), table

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        image_path, mask_path = self.pairs[index]
        try:
            image = decode(self.root / image_path)
        except BadImageError as error:
            raise ConfigError(
                f"{SETTING}.root={self.root}: {error}; choose a data set that is whole"
            ) from error
        labels = self._labels(mask_path)
        if labels.shape != (image.height, image.width):
            height, width = labels.shape
            raise ConfigError(
                f"{SETTING}.root={self.root}: {mask_path} is {width}x{height}, but {image_path} is "
                f"{image.width}x{image.height}: both must have one size; "
                "try the mask resized without blending"
            )
        mask = self._table[labels]
        if (mask == UNKNOWN).any():
            label = int(labels[mask == UNKNOWN].min())
            known = np.flatnonzero(self._table < UNKNOWN)
            raise ConfigError(
                f"{SETTING}.root={self.root}: {mask_path} holds the label {label}, which is no class "
                f"({known.min()}..{known.max()}); try {SETTING}.ignore=[{label}]"
            )
        return image, mask

    def _labels(self, path: str) -> UInt8[np.ndarray, "h w"]:
        try:
            with Image.open(self.root / path, formats=FORMATS) as mask:
                mode, labels = mask.mode, np.asarray(mask)
        except Exception as error:  # damaged files make Pillow raise nearly anything
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{SETTING}.root={self.root}: {path} cannot be read ({reason}); "
                "choose a data set that is whole"
            ) from error
        if mode not in ("L", "P", "1"):
            raise ConfigError(
                f"{SETTING}.root={self.root}: {path} is an image of mode {mode}: a mask holds a class "
                "number a pixel; try an 8-bit gray or palette PNG"
            )
        return labels.astype(np.uint8)


class SegmentationSplits(NamedTuple):
    """What is trained on and what is measured, the classes' names, and the label that counts for nothing."""

    train: ImageMaskFiles
    val: ImageMaskFiles
    classes: list[str]
    ignored: int


def splits_of(
    root: Path,
    train: list[tuple[str, str]],
    val: list[tuple[str, str]],
    names: Mapping[int, str],
    ignore: Sequence[int],
) -> SegmentationSplits:
    """Splits of pairs below `root`; classes are numbered anew, by their labels and without the ignored.

    Args:
        root, train, val: see ImageMaskFiles.
        names: of the classes, by label in the files.
        ignore: labels in the files that count for nothing.

    Raises:
        ConfigError: a label beyond 8 bits, or fewer than two classes.
    """
    for label in [*names, *ignore]:
        if not 0 <= label <= 255:
            raise ConfigError(f"{SETTING}: the label {label} does not fit a mask's 8 bits; try 0..255")
    classes = {label: name for label, name in sorted(names.items()) if label not in ignore}
    if not 2 <= len(classes) < UNKNOWN:
        raise ConfigError(
            f"{SETTING}.ignore={list(ignore)}: leaves {len(classes)} classes, 2..{UNKNOWN - 1} are "
            "needed; try ignore=[]"
        )
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(classes)] = np.arange(len(classes))
    table[list(ignore)] = IGNORED
    return SegmentationSplits(
        ImageMaskFiles(root, train, table), ImageMaskFiles(root, val, table), list(classes.values()), IGNORED
    )
