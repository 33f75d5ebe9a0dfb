"""The order of training images: a function of the seed, the keys of the images, and the epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64
from torch.utils.data import Sampler

from cim_lightning.data.image_keys import ORDER, shuffled


@dataclass(eq=False)
class ResumableBatchSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index), with a new permutation of the images in every epoch.

    The first batch is number `position()`, so a resumed training continues mid-epoch with the remaining
    samples. The last, incomplete optimizer step of each epoch is dropped. Devices have disjoint images. The
    images of a step depend on their number only, not on how devices and accumulated batches divide them.
    Which of two images comes first in an epoch depends on their keys, not on the other images.

    With `aug_repeats`, each image is repeated in a row, with different epochs ("repeated augmentation",
    Hoffer et al., CVPR 2020). An epoch has the same length, and so fewer different images.
    """

    keys: UInt64[np.ndarray, " n"]  # of the images of the data set
    batch_size: int  # images per device and batch
    seed: int
    position: Callable[[], int]  # returns the number of the next batch; called by `iter`
    rank: int = 0  # number of this device, below world_size
    world_size: int = 1
    aug_repeats: int = 1
    accumulate: int = 1  # batches per optimizer step

    @property
    def images_per_batch(self) -> int:
        """Images of all devices."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        steps = len(self.keys) // (self.images_per_batch * self.accumulate)
        return steps * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, batch = divmod(self.position(), len(self))
        while True:
            order = shuffled(self.keys, ORDER, self.seed, epoch)
            for start in range(batch * self.batch_size, len(self) * self.batch_size, self.batch_size):
                slots = np.arange(start, start + self.batch_size) * self.world_size + self.rank
                images, repeats = np.divmod(slots, self.aug_repeats)
                epochs = epoch * self.aug_repeats + repeats
                yield list(zip(epochs.tolist(), order[images].tolist(), strict=True))
            epoch, batch = epoch + 1, 0
