"""Subsets, batches and tensors of images with masks."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """Return at most `count` indices from 0 to total - 1; None: all."""
    count = total if count is None else min(count, total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def to_tensors(pairs: Sequence[Any]) -> list[tuple[Tensor, Tensor]]:
    """Convert RGB images and their masks to uint8 tensors "3 h w" and "h w"."""
    arrays = [(np.array(image), np.array(mask)) for image, mask in pairs]
    return [(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)) for image, mask in arrays]


def index_batches(
    images: int, batch_size: int, seed: int, start: int, stop: int
) -> Iterator[tuple[int, ...]]:
    """Return the batches from `start` to `stop - 1`. Each epoch is a new permutation of the images.

    A batch may contain images of two epochs.
    """
    epochs = (np.random.default_rng((seed, epoch)).permutation(images) for epoch in itertools.count())
    indices = (int(index) for epoch in epochs for index in epoch)
    return itertools.islice(zip(*[indices] * batch_size, strict=True), start, stop)
