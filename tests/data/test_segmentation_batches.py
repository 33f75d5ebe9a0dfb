"""Samples and the order of images with masks."""

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.loader import Loading
from cim_lightning.data.segmentation import MaskSource
from cim_lightning.data.segmentation_batches import (
    MaskSamples,
    StepBatchSampler,
    evenly_spaced,
    mask_loader,
)

INDICES = [10, 11, 12, 13, 14]


class Ramps:
    """Images of different sizes; image i has i rows and 2 columns."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        mask = np.arange(2 * index, dtype=np.uint8).reshape(index, 2)
        return Image.fromarray(np.stack((mask, mask + 100, mask + 200), axis=2)), mask


def batches(start: int = 0, seed: int = 7, steps: int = 5, size: int = 4, **division: int) -> list:
    return list(StepBatchSampler(INDICES, size, steps, seed, lambda: start, **division))


def test_each_epoch_is_a_new_permutation_of_the_images() -> None:
    keys = [key for batch in batches() for key in batch]
    assert [epoch for epoch, _ in keys] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    orders = [[index for _, index in keys[i : i + 5]] for i in range(0, 20, 5)]
    assert all(sorted(order) == INDICES for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert batches() == batches() != batches(seed=8)


@pytest.mark.parametrize(("accumulate", "world_size"), [(1, 2), (2, 1), (2, 2), (1, 4), (4, 1)])
def test_the_images_of_a_step_do_not_depend_on_devices_and_accumulation(
    accumulate: int, world_size: int
) -> None:
    parts = [batches(accumulate=accumulate, rank=rank, world_size=world_size) for rank in range(world_size)]
    size = 4 // (accumulate * world_size)
    assert all([len(batch) for batch in part] == [size] * (5 * accumulate) for part in parts)
    for step, whole in enumerate(batches()):
        mine = slice(step * accumulate, (step + 1) * accumulate)
        keys = [key for part in parts for batch in part[mine] for key in batch]
        assert sorted(keys) == sorted(whole)


def test_a_resumed_training_has_the_remaining_batches() -> None:
    division = {"accumulate": 2, "rank": 1, "world_size": 2}
    assert batches(7, **division) == batches(**division)[7:]
    assert len(StepBatchSampler(INDICES, 4, 5, 7, lambda: 0, **division)) == 10


def test_samples_are_tensors_with_a_seed_per_key() -> None:
    assert isinstance(Ramps(), MaskSource)
    samples = MaskSamples(Ramps(), 0)
    image, mask, seed = samples[0, 3]
    assert mask.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert image[1].tolist() == [[100, 101], [102, 103], [104, 105]]
    seeds = [seed, samples[1, 3].seed, samples[0, 4].seed, MaskSamples(Ramps(), 1)[0, 3].seed]
    assert len(set(seeds)) == 4
    assert seed == MaskSamples(Ramps(), 0)[0, 3].seed


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_is_a_list_and_may_be_empty(workers: int) -> None:
    loaded = list(mask_loader(MaskSamples(Ramps(), 0), [[(0, 2), (0, 5)], []], Loading(workers, None)))
    assert [[sample.mask.shape for sample in batch] for batch in loaded] == [[(2, 2), (5, 2)], []]


def test_evenly_spaced_indices_include_both_ends() -> None:
    assert (evenly_spaced(5, 3), evenly_spaced(5, 1), evenly_spaced(5, 0)) == ([0, 2, 4], [0], [])
    assert evenly_spaced(3, 3) == evenly_spaced(3, 9) == evenly_spaced(3, None) == [0, 1, 2]
