"""The order of training images, as a function of the seed and the number of batches trained on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(eq=False)
class ResumableBatchSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index) keys; every epoch is another permutation of the images.

    Iteration starts at batch number `position()`, so a resumed training continues mid-epoch with the
    remaining samples. The last, incomplete batch of each epoch is dropped.

    Args:
        num_images: number of images in the data set.
        batch_size: images in one device's batch.
        seed: of the permutations.
        position: returns the number of batches that each device has trained on; called by `iter`.
        rank, world_size: number of this device, and of all devices. The devices' images are disjoint.
        aug_repeats: how many times in a row an image is repeated, each time with the key of another epoch
            ("repeated augmentation", Hoffer et al., CVPR 2020). An epoch keeps its length, so it sees only
            1 / aug_repeats of the images.
    """

    num_images: int
    batch_size: int
    seed: int
    position: Callable[[], int]
    rank: int = 0
    world_size: int = 1
    aug_repeats: int = 1

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.num_images // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, batch = divmod(self.position(), len(self))
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
            for start in range(batch * self.batch_size, len(self) * self.batch_size, self.batch_size):
                slots = np.arange(start, start + self.batch_size) * self.world_size + self.rank
                images, repeats = np.divmod(slots, self.aug_repeats)
                keys = zip(epoch * self.aug_repeats + repeats, order[images], strict=True)
                yield [(int(view_epoch), int(image)) for view_epoch, image in keys]
            epoch, batch = epoch + 1, 0
