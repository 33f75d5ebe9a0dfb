"""Masks of the global crops: number of patches, blocks, stratified shares, and seed."""

import re

import pytest
import torch

from cim_lightning.cropping.masked_multi_crop import MaskedMultiCropper
from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds

GLOBAL = RandomCrop(28, [0.25, 1.0], [0.75, 4 / 3], 0.5)
LOCAL = RandomCrop(8, [0.05, 0.25], [0.75, 4 / 3], 0.5)
VIEWS = torch.randint(0, 256, (6, 3, 40, 40), dtype=torch.uint8)
CELLS = 14 * 14


def cropper(**changes) -> MaskedMultiCropper:
    return MaskedMultiCropper(GLOBAL, GLOBAL, LOCAL, 3, **{"mask_patch_size": 2} | changes)


def masks(n: int, seed: int = 0, **changes) -> torch.Tensor:
    """Return the masks of the two crops of n / 2 images."""
    return cropper(**changes).sample_masks(ImageRandom(image_seeds(seed, n // 2))).flatten(0, 1)


def test_crops_are_those_of_multi_crop():
    batch, plain = cropper()(VIEWS, 3), MultiCropper(GLOBAL, GLOBAL, LOCAL, 3)(VIEWS, 3)
    assert torch.equal(batch.global_crops, plain.global_crops)
    assert torch.equal(batch.local_crops, plain.local_crops)
    assert batch.mask.shape == (2, 6, 14, 14)
    assert batch.num_masked == batch.mask.sum()
    assert batch.num_images == 6


@pytest.mark.parametrize("seed", range(5))
def test_one_crop_of_each_image_has_a_mask_of_a_uniform_share(seed):
    counts = masks(2000, seed).flatten(1).sum(dim=1)
    first, second = counts.unflatten(0, (2, 1000)) > 0
    assert (first ^ second).all()
    assert abs(first.float().mean() - 0.5) < 0.06
    shares = (counts[counts > 0] / CELLS).sort().values
    expected = 0.1 + 0.4 * (torch.arange(1000) + 0.5) / 1000
    assert (shares - expected).abs().max() < 0.4 * 1.95 / 1000**0.5  # Kolmogorov-Smirnov, 0.1 %


def test_the_shares_of_an_image_are_in_both_halves_of_the_range():
    counts = masks(2000, mask_prob=1.0, mask_ratio=[0.2, 0.6]).flatten(1).sum(dim=1).unflatten(0, (2, 1000))
    low, high = counts.sort(dim=0).values / CELLS
    assert 0.2 - 0.5 / CELLS <= low.min() < low.max() <= 0.4 + 0.5 / CELLS <= high.max() <= 0.6 + 0.5 / CELLS
    assert high.min() >= 0.4 - 0.5 / CELLS


def test_every_crop_is_masked_with_the_same_probability_and_share():
    counts = torch.stack([masks(6, seed).flatten(1).sum(dim=1) for seed in range(600)]).float()
    assert ((counts > 0).float().mean(dim=0) - 0.5).abs().max() < 0.07
    assert (counts.mean(dim=0) / CELLS - 0.15).abs().max() < 0.02


def test_masks_are_made_of_blocks():
    """A masked patch has more masked neighbors than in a mask of independent patches."""
    blocks = masks(200, mask_prob=1.0, mask_ratio=[0.3, 0.3]).float()
    assert (blocks.sum(dim=(1, 2)) == round(0.3 * CELLS)).all()
    pairs = (blocks[:, :, 1:] * blocks[:, :, :-1]).sum() / (200 * 14 * 13)
    assert pairs > 2 * 0.3**2
    single = masks(
        200, mask_prob=1.0, mask_ratio=[0.09, 0.09]
    )  # 18 patches, one or two blocks of at least 16
    for mask in single:
        rows, columns = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert mask.sum() == 18
        assert rows * columns <= 120


def test_masks_cover_the_whole_crop_over_time():
    share = masks(4000, mask_prob=1.0).float().mean(dim=0)
    assert abs(share.mean() - 0.3) < 0.01
    assert share.min() > 0.02  # corners are in few blocks
    assert (share - share.flip(0)).abs().max() < 0.04
    assert (share - share.flip(1)).abs().max() < 0.04
    assert (share - share.T).abs().max() < 0.06


def test_masks_depend_on_the_seed_only():
    first = cropper()(VIEWS, 3)
    torch.rand(3)
    assert torch.equal(first.mask, cropper()(VIEWS, 3).mask)
    assert not torch.equal(first.mask, cropper()(VIEWS, 4).mask)


def test_small_grids_get_the_exact_number():
    small = MaskedMultiCropper(
        GLOBAL, GLOBAL, None, 0, mask_patch_size=14, mask_ratio=[0.5, 0.5], mask_prob=1.0
    )
    assert small(VIEWS, 0).mask.flatten(2).sum(dim=2).eq(2).all()


@pytest.mark.parametrize(
    ("changes", "message", "suggestion"),
    [
        ({"mask_patch_size": 5}, "mask_patch_size=5", "4"),
        ({"mask_ratio": [0.5, 0.1]}, "mask_ratio=[0.5, 0.1]", "[0.1, 0.5]"),
        ({"mask_prob": 0.0}, "mask_prob=0.0", "0.1"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(changes, message, suggestion):
    (name,) = changes
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern):
        cropper(**changes)
