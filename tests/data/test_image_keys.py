"""Keys of images, their hashes with numbers, and the orders that follow from them."""

from hashlib import blake2b
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset

from cim_lightning.data.image_keys import distinct, image_keys, mix, name_key, random_part, shuffled

MASK = 2**64 - 1
KEYS = st.lists(st.integers(0, MASK), min_size=1, max_size=30, unique=True)


def array(*keys: int) -> np.ndarray:
    return np.array(keys, np.uint64)


def splitmix(x: int) -> int:
    """The first output of SplitMix64 with a seed, in Python integers."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_the_key_of_a_name_is_the_begin_of_its_hash():
    digest = blake2b(b"a/\xff.png", digest_size=8).hexdigest()
    assert name_key(b"a/\xff.png").to_bytes(8, "little").hex() == digest


@settings(max_examples=30)
@given(st.lists(st.integers(0, MASK), min_size=1), st.lists(st.integers(-(2**63), MASK), max_size=3))
def test_mix_equals_a_transcription(keys, numbers):
    salt = 0
    for number in numbers:
        salt = splitmix(salt ^ splitmix(number & MASK))
    assert mix(array(*keys), *numbers).tolist() == [splitmix(key ^ salt) for key in keys]


def test_repeated_keys_become_distinct_and_first_ones_stay():
    keys = array(7, 9, 7, 7, 9, 1)
    found = distinct(keys)
    assert found[[0, 1, 5]].tolist() == [7, 9, 1]
    assert len({*found.tolist()}) == 6
    assert found[[2, 4]].tolist() == mix(array(7, 9), 1).tolist()
    assert found[3] == mix(array(7), 2)[0]
    assert distinct(array(3, 1, 2)).tolist() == [3, 1, 2]
    assert keys.tolist() == [7, 9, 7, 7, 9, 1]


@settings(max_examples=30)
@given(KEYS, st.data(), st.integers(0, 5))
def test_an_order_is_a_permutation_that_other_images_do_not_change(keys, data, epoch):
    order = [keys[i] for i in shuffled(array(*keys), epoch)]
    assert sorted(order) == sorted(keys)
    part = data.draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))
    assert [part[i] for i in shuffled(array(*part), epoch)] == [key for key in order if key in part]


def test_each_image_is_at_each_place_equally_often():
    """Chi-square of 5 images at 5 places in 500 epochs: 16 degrees of freedom; below 39.3 in 99.9 %."""
    counts = np.zeros((5, 5))
    for epoch in range(500):
        counts[shuffled(np.arange(5, dtype=np.uint64), 3, epoch), range(5)] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 39.3


def test_keys_of_sources():
    with_keys = SimpleNamespace(keys=array(5, 6, 7), __len__=lambda: 3)
    assert image_keys(with_keys).tolist() == [5, 6, 7]
    assert image_keys(Subset(with_keys, [2, 0])).tolist() == [7, 5]  # pyright: ignore
    assert image_keys([0] * 4).tolist() == [0, 1, 2, 3]


def test_a_random_part_is_the_begin_of_a_random_order():
    source = list(range(50))
    order = random_part(source, 3)
    assert sorted(order) == source != order
    assert random_part(source, 3, 7) == order[:7]
    assert random_part(source, 4) != order
