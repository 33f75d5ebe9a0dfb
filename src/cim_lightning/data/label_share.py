"""Labels of a share of the training images, for semi-supervised training. The other labels are hidden."""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from torch.utils.data import Subset

from cim_lightning.data.image_keys import LABELED, image_keys, mix
from cim_lightning.data.pixel_format import Pixels
from cim_lightning.data.source import NO_LABEL
from cim_lightning.errors import ConfigError


class PartlyLabeled:
    """A Source that hides the labels of some images of another one. All else is as in the other one.

    Args:
        source: a Source, or a Subset of one.
        labels: of its images; NO_LABEL where the label is hidden.
    """

    def __init__(self, source: Any, labels: Int64[np.ndarray, " n"]):
        self.source, self.labels = source, labels
        self.keys = image_keys(source)  # a Subset has no attribute with those of its images

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        return self.source[index][0], int(self.labels[index])

    def sample(self, index: int, rng: np.random.Generator) -> tuple[Pixels, int]:
        """Return a pair of images, of a source that has pairs."""
        return self.source.sample(index, rng)[0], int(self.labels[index])

    def describe_labels(self) -> str:
        """Return how many images have a label."""
        return f"labels of {np.count_nonzero(self.labels != NO_LABEL):,} training images are used"

    def __getattr__(self, name: str) -> Any:
        if name == "source":  # while it is unpickled in a worker
            raise AttributeError(name)
        return getattr(self.source, name)


def hide_labels(source: Any, share: float | None, seed: int) -> Any:
    """Return a Source in which about `share` of the labeled images have their label.

    Args:
        source: a Source, or a Subset of one.
        share: probability that an image keeps its label, above 0 and at most 1; None: all labels, and the
            source itself is returned.
        seed: of the random choice, see `choose_labeled`.

    Raises:
        ConfigError: the source has no labels.
    """
    if share is None:
        return source
    labels = _labels(source)
    if labels is None or not (labels != NO_LABEL).any():
        rule = "the training images have no labels"
        raise ConfigError("label_share", share, rule, hint="put them into one folder per class")
    return PartlyLabeled(source, np.where(choose_labeled(source, labels, share, seed), labels, NO_LABEL))


def choose_labeled(
    source: Any, labels: Int64[np.ndarray, " n"], share: float, seed: int
) -> Bool[np.ndarray, " n"]:
    """Return which images keep their label.

    This is a function of the seed and the image's key: other images, their order and their number do not
    change it. The one exception is a class of which no image would have a label: the image with the smallest
    hash has one.
    """
    mixed = mix(image_keys(source), LABELED, seed)
    chosen = mixed <= np.uint64(math.ceil(share * 2**64) - 1)  # 2^64, for a share of 1, is no uint64
    order = np.argsort(mixed, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    chosen[order[first]] = True
    return chosen & (labels != NO_LABEL)


def count_labeled(source: Any) -> int:
    """Return how many images of a Source have a label.

    All have one if the source has classes and does not list its labels.
    """
    labels = _labels(source)
    images: Any = source
    while isinstance(images, Subset):
        images = images.dataset
    if labels is None:
        return len(source) if images.classes else 0
    return int(np.count_nonzero(labels != NO_LABEL))


def _labels(source: Any) -> Int64[np.ndarray, " n"] | None:
    """Return the labels of all images; None if the source has no classes or does not list its labels."""
    if isinstance(source, Subset):
        labels = _labels(source.dataset)
        return None if labels is None else labels[np.asarray(source.indices, np.int64)]
    labels = getattr(source, "labels", None)
    return None if labels is None or not source.classes else np.asarray(labels, np.int64)
