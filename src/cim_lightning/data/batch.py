"""A batch of views, and which images it was made from."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.utils.data import get_worker_info

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


def collate(samples: Iterable[Sample], count: int) -> Batch | Samples:
    """Stack samples to a batch. If one has no view, return only the images.

    Each view is copied once: in a worker, into memory that the process of the training shares.

    Args:
        samples: may be a generator, so that no more than one view is in memory twice.
        count: of the samples.

    Raises:
        ValueError: the views differ in shape or type, as the images of a source of one's own may.
    """
    views, has_all, rows, skipped = None, True, [], []
    for row, sample in enumerate(samples):
        if sample.view is None:
            has_all = False
        else:
            if views is None:
                views = _empty((count, *sample.view.shape), sample.view.dtype)
            if (views.shape[1:], views.dtype) != (sample.view.shape, sample.view.dtype):  # would be converted
                found, first = (f"{[*view.shape]} of {view.dtype}" for view in (sample.view, views[0]))
                raise ValueError(f"the view of image {sample.index} is {found}, others are {first}")
            views[row] = sample.view
        rows.append((sample.label, sample.seed, sample.epoch, sample.index))
        skipped += sample.skipped
    labels, seeds, epochs, indices = np.array(rows, np.int64).T.copy()
    info = Samples(epochs, indices, seeds, skipped)
    if views is None or not has_all:
        return info
    return Batch(views, torch.tensor(labels), torch.tensor(seeds), info)


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    if get_worker_info() is None:
        return torch.empty(*shape, dtype=dtype)
    # As torch's collate does. Tensor.share_memory_() would copy.
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, torch.empty(*shape, device="meta").stride())
