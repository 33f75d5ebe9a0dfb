"""RandAugment behind a random view: a function of the generator, and off where it is off."""

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.augmentation import RandAugmentCrop
from cim_lightning.data.views import RandomResizedCropFlip
from cim_lightning.errors import ConfigError

SHAPE = (16, (0.5, 1.0), (0.75, 1.33), 0.5)


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))


def pixels(view, seed: int) -> np.ndarray:
    return np.asarray(view(photo(), np.random.default_rng(seed)))


def test_without_randaugment_it_is_the_random_view() -> None:
    for seed in range(4):
        assert np.array_equal(
            pixels(RandAugmentCrop(*SHAPE, None), seed), pixels(RandomResizedCropFlip(*SHAPE), seed)
        )


def test_the_generator_decides_all() -> None:
    view = RandAugmentCrop(*SHAPE, "rand-m9-mstd0.5-inc1")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = [pixels(view, seed) for seed in range(8)]
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.rand()  # noqa: NPY002
    again = [pixels(view, seed) for seed in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    plain = [pixels(RandomResizedCropFlip(*SHAPE), seed) for seed in range(8)]
    assert sum(not np.array_equal(a, b) for a, b in zip(first, plain, strict=True)) > 4
    assert all(one.shape == (16, 16, 3) for one in first)


@pytest.mark.parametrize("words", ["random-m9", "rand-x3", "rand-m9-nope1", "rand-mfoo"])
def test_words_that_timm_cannot_read_get_one_line(words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^randaugment={words}: [^\n]*try rand-m9"):
        RandAugmentCrop(*SHAPE, words)


@pytest.mark.parametrize("words", ["rand-m10-n8-p1-inc1", "rand-m0-n8-p1", "rand-m9-mstd0.5-inc1"])
def test_the_ends_of_every_range_are_survived(words: str) -> None:
    view = RandAugmentCrop(*SHAPE, words)
    assert all(pixels(view, seed).shape == (16, 16, 3) for seed in range(100))


def test_posterising_keeps_a_bit() -> None:
    (one,) = [
        op for op in RandAugmentCrop(*SHAPE, "rand-m10-inc1")._change.ops if op.name.startswith("Poster")
    ]
    assert [one.level_fn(level, {}) for level in (0, 5, 9, 10)] == [(4,), (2,), (1,), (1,)]


def test_a_view_without_a_size_takes_the_one_given_and_one_with_a_size_keeps_it() -> None:
    open_ended = RandAugmentCrop(None, *SHAPE[1:], "rand-m9-mstd0.5-inc1")
    assert np.array_equal(
        pixels(open_ended.sized(16), 3), pixels(RandAugmentCrop(*SHAPE, "rand-m9-mstd0.5-inc1"), 3)
    )
    assert RandAugmentCrop(*SHAPE, None).sized(99).size == 16
