"""torchvision's data sets as sources. A data set that cannot be opened raises ConfigError."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100, STL10, ImageNet, Imagenette

from cim_lightning.data.decode import decode
from cim_lightning.data.pixel_format import RGB8, PixelFormat, Pixels
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError


class LabeledDataset:
    """A torchvision classification data set as a Source. Unlabeled images must have the label -1."""

    def __init__(self, dataset: Any, pixels: PixelFormat = RGB8):
        self._dataset, self._pixels = dataset, pixels
        # ImageNet and Imagenette have WordNet IDs, the folder names of ImageNet-C and similar data sets.
        self.classes: list[str] | None = list(getattr(dataset, "wnids", dataset.classes))
        labels = getattr(dataset, "labels", getattr(dataset, "targets", None))
        if labels is None:  # Imagenette has neither attribute
            labels = [label for _, label in dataset._samples]
        self.labels = np.asarray(labels, np.int64)
        self.in_memory = isinstance(getattr(dataset, "data", None), np.ndarray)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        image, label = self._dataset[index]
        return self._pixels.convert(image), int(label)


def cifar10(root: str, download: bool, pixels: PixelFormat = RGB8) -> Splits:
    """CIFAR-10: 50,000 and 10,000 images of 32x32 pixels, 10 classes."""
    return _open(CIFAR10, root, {"train": True}, {"train": False}, download, pixels)


def cifar100(root: str, download: bool, pixels: PixelFormat = RGB8) -> Splits:
    """CIFAR-100: 50,000 and 10,000 images of 32x32 pixels, 100 classes."""
    return _open(CIFAR100, root, {"train": True}, {"train": False}, download, pixels)


def stl10(root: str, download: bool, pixels: PixelFormat = RGB8) -> Splits:
    """STL-10: 105,000 and 8,000 images of 96x96 pixels, 10 classes.

    The training images are 5,000 labeled images, followed by 100,000 unlabeled images. They take 2.9 GB of
    memory, and twice as much while loading.
    """
    return _open(STL10, root, {"split": "train+unlabeled"}, {"split": "test"}, download, pixels)


def imagenette(root: str, download: bool, pixels: PixelFormat = RGB8) -> Splits:
    """Imagenette: 9,469 and 3,925 photographs of 10 easy ImageNet classes, with a shorter side of 320 pixels.

    The full size would take four times as long to download and to decode.
    """
    splits = {"split": "train"}, {"split": "val"}
    return _open(
        Imagenette, root, *splits, download, pixels, size="320px", loader=partial(decode, arrays=True)
    )


def imagenet(root: str, pixels: PixelFormat = RGB8) -> Splits:
    """ImageNet-1k from the archives of ILSVRC 2012, which are extracted on first use."""
    return _open(
        ImageNet,
        root,
        {"split": "train"},
        {"split": "val"},
        None,
        pixels,
        loader=partial(decode, arrays=True),
    )


def _open(
    dataset: Callable[..., Any],
    root: str,
    train: Any,
    val: Any,
    download: bool | None,
    pixels: PixelFormat,
    **options: Any,
) -> Splits:
    """Open both splits; `download` is None for a data set that cannot be downloaded."""
    path = os.path.abspath(os.path.expanduser(root))
    options |= {} if download is None else {"download": download}
    try:
        # torchrun and schedulers start one process per device: one downloads, the others wait.
        with FileLock(os.path.join(path, ".download.lock")) if download else nullcontext():
            opened = [LabeledDataset(dataset(path, **split, **options), pixels) for split in (train, val)]
            return Splits(opened[0], opened[1])
    except (RuntimeError, OSError, ImportError) as error:
        hint = {
            True: "the download failed: check the network, or put the files there by hand",
            False: "set download=true to download it",
            None: "it cannot be downloaded: put ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and "
            "ILSVRC2012_img_val.tar there, or use the folder data set for a train/ val/ tree",
        }[download]
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError("root", root, f"has no intact {dataset.__name__} ({reason})", hint=hint) from error
