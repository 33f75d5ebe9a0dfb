"""Random splits: the split of an image depends on its key only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim_lightning.data.image_keys import SPLIT, mix
from cim_lightning.data.random_split import random_split
from cim_lightning.errors import ConfigError

FRACTIONS = st.floats(0.01, 0.99)
KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40, unique=True)


def split(keys: list[int], fraction: float, seed: int) -> tuple[set[int], set[int]]:
    """The keys of the training and of the validation images."""
    train, val = random_split(np.array(keys, np.uint64), fraction, seed)
    return {keys[i] for i in train}, {keys[i] for i in val}


@settings(max_examples=20)
@given(KEYS, FRACTIONS, st.integers(0, 3))
def test_an_image_is_for_validation_if_its_hash_is_below_the_fraction(keys, fraction, seed):
    hashes = mix(np.array(keys, np.uint64), SPLIT, seed) / 2.0**64
    below = {key for key, number in zip(keys, hashes, strict=True) if number < fraction}
    train, val = split(keys, fraction, seed)
    assert train | val == {*keys}
    assert not train & val
    assert train
    assert val
    if 0 < len(below) < len(keys):
        assert val == below
    else:
        assert len(val if not below else train) == 1


@settings(max_examples=20)
@given(KEYS, st.integers(0, 2**64 - 1), FRACTIONS)
@pytest.mark.fault(
    "data", "an image was added to a folder without validation images", "no image moves to the other split"
)
def test_one_more_image_moves_no_other(keys, new, fraction):
    many = [*keys, *range(100)]  # so that neither split would be empty
    train, val = split(many, fraction, 0)
    more_train, more_val = split([*many, new], fraction, 0)
    assert more_train - {new} == train - {new}
    assert more_val - {new} == val - {new}


@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_the_share_is_that_of_the_fraction(fraction):
    keys = np.arange(20_000, dtype=np.uint64)
    for seed in range(5):  # within four standard deviations
        num_val = len(random_split(keys, fraction, seed)[1])
        assert abs(num_val - 20_000 * fraction) < 4 * (20_000 * fraction * (1 - fraction)) ** 0.5
    assert not np.array_equal(random_split(keys, fraction, 0)[1], random_split(keys, fraction, 1)[1])


@pytest.mark.parametrize("keys", [[], [3], [3, 3]])
def test_one_image_cannot_be_split(keys):
    with pytest.raises(ConfigError, match=r"^root=x: has one image; .*; try val=none$"):
        random_split(np.array(keys, np.uint64), 0.5, 0, given="x")
