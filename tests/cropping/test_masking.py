"""What is hidden of whole views: how much, where, and of which seed."""

import re

import pytest
import torch

from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.errors import ConfigError

VIEWS = torch.randint(0, 256, (5, 3, 28, 28), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("size", "unit", "ratio", "hidden"),
    [(224, 16, 0.75, 147), (192, 32, 0.6, 22), (28, 4, 0.5, 25), (28, 14, 0.25, 1)],
)
def test_every_image_hides_as_many_cells(size, unit, ratio, mask):
    """MAE hides 147 of 196 patches; SimMIM 22 of 36 blocks, of which 0.6 are 21.6."""
    masked = MaskedCropper(size, unit, ratio)(VIEWS, 0)
    assert masked.mask.shape == (5, size // unit, size // unit)
    assert masked.mask.sum(dim=(1, 2)).tolist() == 5 * [hidden]
    assert masked.count == hidden
    assert masked.images.shape[-1] == size


def test_every_cell_is_hidden_as_often_and_independently():
    mask = MaskedCropper(28, 7, 0.25).sample(20000, torch.Generator().manual_seed(0)).flatten(1).float()
    assert (mask.mean(dim=0) - 0.25).abs().max() < 0.015
    pair = (mask.T @ hidden / len(mask))[~torch.eye(16, dtype=torch.bool)]
    assert (pair - 0.25 * 3 / 15).abs().max() < 0.01  # 4 of 16 without putting back


def test_masks_follow_their_seed_alone():
    cropper = MaskedCropper(28, 4, 0.5)
    first = cropper(VIEWS, 3).mask
    torch.rand(3)
    assert torch.equal(first, cropper(VIEWS, 3).mask)
    assert not torch.equal(first, cropper(VIEWS, 4).mask)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("settings", "told", "nearest"),
    [
        ((28, 5, 0.5), "cropping.mask_patch_size=5", "4"),
        ((28, 28, 0.5), "cropping.mask_patch_size=28", "a divisor of 28"),
        ((28, 7, 0.0), "cropping.ratio=0.0", "0.1"),
        ((28, 14, 0.9), "cropping.ratio=0.9", "0.75"),
        ((28, 7, 1.5), "cropping.ratio=1.5", "0.9375"),
    ],
)
def test_a_mistake_gets_one_line(settings, told, nearest):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {nearest}$"):
        MaskedCropper(*settings)
