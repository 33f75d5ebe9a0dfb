"""RandAugment after a random crop depends on the generator only; null disables it."""

import numpy as np
import pytest
from PIL import Image

from cim_lightning.data.augmentation import RandAugmentCrop
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.view_dataset import RandomResizedCropFlip
from cim_lightning.errors import ConfigError

SHAPE = (16, (0.5, 1.0), (0.75, 1.33), 0.5)


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))


def pixels(view, seed: int) -> np.ndarray:
    return np.asarray(view(photo(), np.random.default_rng(seed)))


def test_without_randaugment_the_view_is_the_random_crop() -> None:
    for seed in range(4):
        assert np.array_equal(
            pixels(RandAugmentCrop(*SHAPE, None), seed), pixels(RandomResizedCropFlip(*SHAPE), seed)
        )


def test_views_depend_on_the_generator_only() -> None:
    view = RandAugmentCrop(*SHAPE, "rand-m9-mstd0.5-inc1")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = [pixels(view, seed) for seed in range(8)]
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.rand()  # noqa: NPY002
    again = [pixels(view, seed) for seed in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    plain = [pixels(RandomResizedCropFlip(*SHAPE), seed) for seed in range(8)]
    assert sum(not np.array_equal(a, b) for a, b in zip(first, plain, strict=True)) > 4
    assert all(array.shape == (16, 16, 3) for array in first)


@pytest.mark.parametrize("spec", ["random-m9", "rand-x3", "rand-m9-nope1", "rand-mfoo"])
def test_a_string_that_timm_cannot_parse_is_an_error(spec: str) -> None:
    with pytest.raises(ConfigError, match=rf"^randaugment={spec}: [^\n]*try rand-m9"):
        RandAugmentCrop(*SHAPE, spec)


@pytest.mark.parametrize("spec", ["rand-m10-n8-p1-inc1", "rand-m0-n8-p1", "rand-m9-mstd0.5-inc1"])
def test_extreme_strengths_run(spec: str) -> None:
    view = RandAugmentCrop(*SHAPE, spec)
    assert all(pixels(view, seed).shape == (16, 16, 3) for seed in range(100))


def test_posterize_has_at_least_one_bit() -> None:
    ops = RandAugmentCrop(*SHAPE, "rand-m10-inc1")._augment.ops
    (posterize,) = [op for op in ops if op.name.startswith("Poster")]
    assert [posterize.level_fn(level, {}) for level in (0, 5, 9, 10)] == [(4,), (2,), (1,), (1,)]


def test_for_images_sets_a_missing_size_only() -> None:
    without_size = RandAugmentCrop(None, *SHAPE[1:], "rand-m9-mstd0.5-inc1")
    assert np.array_equal(
        pixels(without_size.for_images(16), 3), pixels(RandAugmentCrop(*SHAPE, "rand-m9-mstd0.5-inc1"), 3)
    )
    assert RandAugmentCrop(*SHAPE, None).for_images(99).size == 16


@pytest.mark.user_input("pixels", "fine-tuning of 16-bit gray images with RandAugment", "a line: skipped")
def test_images_other_than_rgb_are_cropped_without_randaugment(caplog) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (40, 30, 1), dtype=np.uint16)
    with caplog.at_level("INFO"):
        view = RandAugmentCrop(*SHAPE, "rand-m9-mstd0.5-inc1").for_images(16, PixelFormat(1, 16))
    assert caplog.messages == ["RandAugment is skipped: it needs RGB images of 8 bits"]
    augmented, cropped = (v(image, np.random.default_rng(1)) for v in (view, RandomResizedCropFlip(*SHAPE)))
    assert np.array_equal(augmented, cropped)
    assert (augmented.shape, augmented.dtype) == ((16, 16, 1), np.uint16)
