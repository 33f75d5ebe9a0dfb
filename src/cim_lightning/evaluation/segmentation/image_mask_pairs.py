"""Images and masks of a source as tensors, and the order in which training sees them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """At most `limit` images and masks of a source, evenly spaced, as uint8 tensors "c h w" and "h w"."""

    def __init__(self, source: Any, limit: int | None):
        self.source = source
        self.chosen = evenly(len(source), min(limit or len(source), len(source)))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.source[self.chosen[index]]
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(np.array(mask))


class Order:
    """Batches of indices: permutation after permutation, each a function of seed and epoch.

    Args:
        count: of the indices.
        steps: batches in all.
        batch_size: indices a batch.
        seed: of the permutations.
        done: batches to pass over, which were seen before.
    """

    def __init__(self, count: int, steps: int, batch_size: int, seed: int, done: int):
        self.count, self.steps, self.batch_size, self.seed, self.done = count, steps, batch_size, seed, done

    def __len__(self) -> int:
        return self.steps - self.done

    def __iter__(self) -> Iterator[list[int]]:
        waiting: list[int] = []
        epoch = 0
        for step in range(self.steps):
            while len(waiting) < self.batch_size:
                waiting += np.random.default_rng((self.seed, epoch)).permutation(self.count).tolist()
                epoch += 1
            batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
            if step >= self.done:
                yield batch


def evenly(count: int, chosen: int) -> list[int]:
    """So many of the numbers below count, spread from the first to the last."""
    return np.linspace(0, count - 1, chosen).round().astype(int).tolist()
