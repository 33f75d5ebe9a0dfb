"""Images and masks as tensors, and the order in which training reads them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """Return `count` indices from the first to the last of `total`; all if there are fewer, or for None."""
    count = total if count is None else min(count, total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def subset(source: Any, limit: int | None) -> Subset[Any]:
    """Return at most `limit` evenly spaced pairs of a source."""
    return Subset(source, evenly_spaced(len(source), limit))


def to_tensors(pairs: Sequence[Any]) -> list[tuple[Tensor, Tensor]]:
    """Convert RGB images and masks, whose sizes may differ, to uint8 tensors "3 h w" and "h w"."""
    arrays = [(np.array(image), np.array(mask)) for image, mask in pairs]
    return [(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)) for image, mask in arrays]


def index_batches(
    images: int, batch_size: int, seed: int, start: int, stop: int
) -> Iterator[tuple[int, ...]]:
    """Return batches `start` to `stop` of an endless sequence of permutations, each by seed and epoch."""
    epochs = (np.random.default_rng((seed, epoch)).permutation(images) for epoch in itertools.count())
    indices = (int(index) for epoch in epochs for index in epoch)
    return itertools.islice(zip(*[indices] * batch_size, strict=True), start, stop)
