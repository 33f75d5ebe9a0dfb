"""A batch of views, and which images it was made from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from cim_lightning.cropping.views import Views


class Sample(NamedTuple):
    """A view of one image, as a worker returns it."""

    view: Shaped[Tensor, "*c h w"] | None  # None: neither the image nor those after it can be decoded
    label: int  # -1: no label
    seed: int  # of the image's crops
    epoch: int
    index: int  # of the image in the source
    skipped: list[tuple[int, str]] = []  # noqa: RUF012 -- never changed; see Samples


class Samples:
    """The images that a batch was made from. They stay on the host.

    The class is neither a tuple nor a dataclass, so that Lightning and pinned memory leave it unchanged.

    Args:
        epochs, indices: of the images in their source.
        seeds: of the images' crops, as in `Batch.seeds`.
        skipped: index and reason of each image that could not be decoded and was replaced.
    """

    def __init__(
        self,
        epochs: Int64[np.ndarray, " b"],
        indices: Int64[np.ndarray, " b"],
        seeds: Int64[np.ndarray, " b"],
        skipped: Sequence[tuple[int, str]] = (),
    ):
        self.epochs, self.indices, self.seeds, self.skipped = epochs, indices, seeds, list(skipped)


class Batch(NamedTuple):
    """A batch of a data loader."""

    views: Views
    labels: Int64[Tensor, " b"]  # -1: no label
    seeds: Int64[Tensor, " b"]  # of the random numbers on the device, one per image
    samples: Samples


def collate(samples: Sequence[Sample]) -> Batch | Samples:
    """Stack samples to a batch. If one has no view, return only the images."""
    views, labels, seeds, epochs, indices, skipped = zip(*samples, strict=True)
    rows = np.array([epochs, indices, seeds], np.int64)
    info = Samples(rows[0], rows[1], rows[2], [image for images in skipped for image in images])
    if any(view is None for view in views):
        return info
    return Batch(torch.stack(views), torch.tensor(labels), torch.tensor(seeds), info)
