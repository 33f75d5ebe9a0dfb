"""Images with masks as tensors: the order of training images, their samples, and loaders."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cim_lightning.data.loader import BatchLoader, Loading
from cim_lightning.data.reading import Reading
from cim_lightning.data.segmentation import MaskSource


class MaskSample(NamedTuple):
    """An image of any size with its mask."""

    image: UInt8[Tensor, "c h w"]
    mask: UInt8[Tensor, "h w"]
    seed: int  # of the random numbers on the device


@dataclass(eq=False)
class MaskSamples(Dataset[MaskSample]):
    """Samples by key (epoch, index). Their seeds are functions of the seed and the key."""

    source: MaskSource
    seed: int
    reading: Reading = field(default_factory=Reading, init=False)  # the loader replaces it

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> MaskSample:
        epoch, index = key
        with self.reading.image(index):
            image, mask = self.source[index]
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
        seed = int(np.random.default_rng((self.seed, epoch, index)).integers(2**62))
        return MaskSample(pixels, torch.from_numpy(mask.astype(np.uint8)), seed)


@dataclass(eq=False)
class StepBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of one device, as keys (epoch, index) of the given images.

    The images of an optimizer step do not depend on the number of devices and on the accumulation: a step of
    `step_size` images is divided into equal batches. Each epoch is a new permutation of the images. A step
    may have images of two or more epochs. The first batch is number `position()`, so that a training resumes
    with the remaining samples.
    """

    indices: Sequence[int]  # of the images
    step_size: int  # images per optimizer step, over all devices; a multiple of accumulate * world_size
    num_steps: int
    seed: int
    position: Callable[[], int]  # returns the number of batches that this device has trained on
    accumulate: int = 1  # batches per device and step
    rank: int = 0
    world_size: int = 1

    @property
    def images_per_batch(self) -> int:
        """Images of all devices."""
        return self.step_size // self.accumulate

    def __len__(self) -> int:
        """Return the number of batches of the whole training."""
        return self.num_steps * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.step_size // (self.accumulate * self.world_size)
        for batch in range(self.position(), len(self)):
            first = (batch * self.world_size + self.rank) * size
            yield [self._key(slot) for slot in range(first, first + size)]

    def _key(self, slot: int) -> tuple[int, int]:
        epoch, place = divmod(slot, len(self.indices))
        return epoch, self.indices[int(_permutation(self.seed, epoch, len(self.indices))[place])]


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(length)


def evenly_spaced(total: int, count: int | None) -> list[int]:
    """Return at most `count` indices from 0 to total - 1; None: all."""
    count = total if count is None else min(count, total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def mask_loader(
    samples: MaskSamples, batches: Iterable[list[tuple[int, int]]], loading: Loading
) -> BatchLoader:
    """Return a loader of lists of MaskSamples with these keys; they are not stacked, as sizes differ."""
    return BatchLoader(samples, list, batches, loading)
