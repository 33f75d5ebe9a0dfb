"""The order of training images: permutations, split over devices, resumable at any batch."""

from itertools import islice

import numpy as np
import pytest

from cim_lightning.data.eval_batches import even_batches
from cim_lightning.data.sampler import ResumableBatchSampler


def keys(num_images: int) -> np.ndarray:
    return np.arange(num_images, dtype=np.uint64)


def order(num_images=23, batch_size=3, seed=0, position=0, rank=0, world_size=1) -> ResumableBatchSampler:
    return ResumableBatchSampler(keys(num_images), batch_size, seed, lambda: position, rank, world_size)


def epochs(count: int, **settings) -> list[list[int]]:
    """The images of the first epochs."""
    batches = order(**settings)
    every = islice(batches, count * len(batches))
    seen: list[list[int]] = [[] for _ in range(count)]
    for batch in every:
        for epoch, index in batch:
            seen[epoch].append(index)
    return seen


def test_each_epoch_is_another_permutation():
    first, second = epochs(2, num_images=24)
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    assert first != sorted(first)


def test_the_dropped_images_differ_between_epochs():
    seen = epochs(6, num_images=23)
    assert all(len(set(epoch)) == 21 for epoch in seen)
    assert len({frozenset(epoch) for epoch in seen}) > 1


def test_the_order_depends_on_the_seed():
    assert epochs(2, seed=4) == epochs(2, seed=4)
    assert epochs(1, seed=4) != epochs(1, seed=5)


@pytest.mark.parametrize("world_size", [2, 4])
def test_devices_have_disjoint_images_and_cover_the_data_set(world_size):
    shares = [epochs(3, num_images=24, world_size=world_size, rank=rank) for rank in range(world_size)]
    for epoch in range(3):
        union = [index for share in shares for index in share[epoch]]
        assert sorted(union) == list(range(24))
        assert {len(share[epoch]) for share in shares} == {24 // world_size}


def test_devices_have_equally_many_disjoint_images_if_images_are_dropped():
    shares = [epochs(2, num_images=29, world_size=2, rank=rank) for rank in range(2)]
    for epoch in range(2):
        first, second = (share[epoch] for share in shares)
        assert len(first) == len(second) == 12
        assert not set(first) & set(second)


@pytest.mark.parametrize("position", [0, 1, 6, 7, 8, 15, 700])
def test_a_resumed_order_continues_at_any_position(position):
    straight = list(islice(order(), position + 20))
    assert list(islice(order(position=position), 20)) == straight[position:]


def test_the_position_is_read_at_the_start_of_each_iteration():
    trained = [0]
    batches = ResumableBatchSampler(keys(23), 3, 0, lambda: trained[0])
    straight = list(islice(batches, 12))
    trained[0] = 9
    assert list(islice(batches, 3)) == straight[9:]


def test_batches_are_full_and_never_mix_epochs():
    for number, batch in enumerate(islice(order(), 30)):
        assert len(batch) == 3
        assert {epoch for epoch, _ in batch} == {number // 7}


@pytest.mark.parametrize(("settings", "length"), [({}, 7), ({"world_size": 2}, 3), ({"batch_size": 23}, 1)])
def test_its_length_is_the_number_of_batches_per_epoch(settings, length):
    assert len(order(**settings)) == length


def test_aug_repeats_are_consecutive_keys_of_different_epochs():
    order = ResumableBatchSampler(keys(7), 2, 0, lambda: 0, aug_repeats=3)
    assert len(order) == 3
    batches = iter(order)
    first = [key for _ in range(3) for key in next(batches)]
    (a, b) = {index: None for _, index in first}  # two images, in order
    assert first == [(0, a), (1, a), (2, a), (0, b), (1, b), (2, b)]
    second = [key for _ in range(3) for key in next(batches)]
    assert [epoch for epoch, _ in second] == [3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (1, 6), (2, 3), (3, 2), (6, 1)])
def test_the_images_of_a_step_do_not_depend_on_how_they_are_divided(world_size: int, accumulate: int):
    """Steps of six of 23 images: three per epoch, and five images are left over."""
    size = 6 // world_size // accumulate
    settings = {"world_size": world_size, "accumulate": accumulate, "aug_repeats": 2}
    orders = [
        ResumableBatchSampler(keys(23), size, 4, lambda: 0, rank, **settings) for rank in range(world_size)
    ]
    whole = iter(ResumableBatchSampler(keys(23), 6, 4, lambda: 0, aug_repeats=2))
    devices = [iter(order) for order in orders]
    assert {len(order) for order in orders} == {3 * accumulate}
    for _ in range(7):  # beyond two epochs
        step = [key for device in devices for _ in range(accumulate) for key in next(device)]
        assert sorted(step) == sorted(next(whole))


@pytest.mark.parametrize(("count", "world_size"), [(17, 2), (17, 3), (16, 2), (5, 5), (1, 1), (9, 4)])
def test_even_batches_share_the_keys_without_repetition(count: int, world_size: int):
    keys = [(7, index) for index in range(count)]
    shares = [even_batches(keys, 4, rank, world_size) for rank in range(world_size)]
    assert sorted(key for batches in shares for batch in batches for key in batch) == keys
    assert len({len(batches) for batches in shares}) == 1
    assert all(1 <= len(batch) <= 4 for batches in shares for batch in batches)
