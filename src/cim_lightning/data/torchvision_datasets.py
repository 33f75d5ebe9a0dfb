"""torchvision's own datasets as sources."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, STL10, ImageNet, Imagenette

from cim_lightning.data.decode import decode
from cim_lightning.data.sources import Splits
from cim_lightning.errors import ConfigError


class LabeledDataset:
    """A torchvision classification dataset as a Source; labels it lacks must be -1 already."""

    def __init__(self, dataset: Any):
        self._dataset = dataset
        # ImageNet's and Imagenette's by WordNet's numbers, as the folders of all that is made after them.
        self.classes: list[str] | None = list(getattr(dataset, "wnids", dataset.classes))

    @property
    def labels(self) -> np.ndarray:
        """Of all images, without reading one."""
        known = getattr(self._dataset, "labels", None)  # STL-10's; others label every image
        return np.zeros(len(self), np.int64) if known is None else np.asarray(known)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, label = self._dataset[index]
        return image if image.mode == "RGB" else image.convert("RGB"), int(label)


def cifar10(root: str, download: bool) -> Splits:
    """CIFAR-10: 50,000 and 10,000 images of 32x32 pixels, 10 classes. Raises ConfigError."""
    return _downloadable(CIFAR10, root, download, {"train": True}, {"train": False})


def cifar100(root: str, download: bool) -> Splits:
    """CIFAR-100: 50,000 and 10,000 images of 32x32 pixels, 100 classes. Raises ConfigError."""
    return _downloadable(CIFAR100, root, download, {"train": True}, {"train": False})


def stl10(root: str, download: bool) -> Splits:
    """STL-10: 105,000 and 8,000 images of 96x96 pixels, 10 classes. Raises ConfigError.

    Training images are the 5,000 labeled ones, which come first and let k-NN work, and then the 100,000
    that were made for pre-training and have the label -1. They take 2.9 GB of memory, twice that at start.
    """
    return _downloadable(STL10, root, download, {"split": "train+unlabeled"}, {"split": "test"})


def imagenette(root: str, download: bool) -> Splits:
    """Imagenette: 9,469 and 3,925 photographs of 10 easy ImageNet classes. Raises ConfigError.

    Of its three sizes the one with shorter sides of 320 pixels: room for crops of 224, at a quarter of
    the full archive's size and decoding time.
    """
    options = {"size": "320px", "loader": decode}
    return _downloadable(Imagenette, root, download, options | {"split": "train"}, options | {"split": "val"})


def imagenet(root: str) -> Splits:
    """ImageNet-1k from the archives of ILSVRC 2012, unpacked on first use. Raises ConfigError.

    Reading its development kit takes scipy, which this package does not install.
    """
    options = {"loader": decode}
    advice = (
        "ImageNet cannot be downloaded here; put ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and "
        "ILSVRC2012_img_val.tar there and install scipy, or use data=folder, which reads a plain train/ val/ "
        "tree of class folders"
    )
    return _open(ImageNet, root, options | {"split": "train"}, options | {"split": "val"}, advice)


def _alone(where: str) -> FileLock:
    """Of several processes, as torchrun and schedulers start one a device, one fetches, the others wait."""
    os.makedirs(where, exist_ok=True)
    return FileLock(os.path.join(where, ".download.lock"))


def _downloadable(
    dataset: Callable[..., Any],
    root: str,
    download: bool,
    train: Mapping[str, Any],
    val: Mapping[str, Any],
) -> Splits:
    fetch = {"download": download}
    advice = (
        "the download failed: look at the network, or put the files there by hand"
        if download
        else "set data.download=true to fetch it"
    )
    return _open(dataset, root, {**train, **fetch}, {**val, **fetch}, advice)


def _open(
    dataset: Callable[..., Any],
    root: str,
    train: Mapping[str, Any],
    val: Mapping[str, Any],
    advice: str,
) -> Splits:
    where = os.path.abspath(os.path.expanduser(root))
    try:
        with _alone(where) if train.get("download") else nullcontext():
            return Splits(LabeledDataset(dataset(where, **train)), LabeledDataset(dataset(where, **val)))
    except (RuntimeError, OSError, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"data.root={root!r} holds no intact {dataset.__name__} ({reason}): {advice}"
        ) from error
