"""The order of training images, as a function of the seed and of how many batches have been trained on."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler


class ResumableBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys: epoch after epoch without end, each a permutation of its own.

    It begins after as many batches as `position()` says when iteration starts, so a loop that counts its
    batches goes on, after an interruption, with the samples that were still to come. The images that do
    not fill a last batch sit an epoch out, others in each epoch.

    Args:
        num_images: images in the data set.
        batch_size: images in one device's batch.
        seed: of the permutations.
        position: batches that each device has trained on so far.
        rank, world_size: which device this is, of how many; together they see each image once an epoch.
        aug_repeats: how often an image is seen in a row where an epoch sees it at all, each time as if in an
            epoch of its own ("repeated augmentation", Hoffer et al., CVPR 2020); epochs keep their length.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        position: Callable[[], int],
        rank: int,
        world_size: int,
        aug_repeats: int,
    ):
        self.num_images, self.batch_size, self.seed, self.position = num_images, batch_size, seed, position
        self.rank, self.world_size, self.aug_repeats = rank, world_size, aug_repeats

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.num_images // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, batch = divmod(self.position(), len(self))
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
            for start in range(batch * self.batch_size, len(self) * self.batch_size, self.batch_size):
                places = np.arange(start, start + self.batch_size) * self.world_size + self.rank
                again, images = places % self.aug_repeats, order[places // self.aug_repeats]
                yield [
                    (epoch * self.aug_repeats + int(i), int(image))
                    for i, image in zip(again, images, strict=True)
                ]
            epoch, batch = epoch + 1, 0
