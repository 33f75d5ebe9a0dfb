"""Random masks: number of cells, choice of cells, and seed."""

import re

import pytest
import torch

from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds

VIEWS = torch.randint(0, 256, (5, 3, 28, 28), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("size", "mask_patch_size", "mask_ratio", "num_masked"),
    [(224, 16, 0.75, 147), (192, 32, 0.6, 22), (28, 4, 0.5, 25), (28, 14, 0.25, 1)],
)
def test_every_image_has_the_same_number_of_masked_cells(size, mask_patch_size, mask_ratio, num_masked):
    """MAE masks 147 of 196 patches, SimMIM 22 of 36 blocks (0.6 of 36 is 21.6)."""
    batch = MaskedCropper(size, mask_patch_size, mask_ratio)(VIEWS, 0)
    assert batch.mask.shape == (5, size // mask_patch_size, size // mask_patch_size)
    assert batch.mask.sum(dim=(1, 2)).tolist() == 5 * [num_masked]
    assert batch.num_masked == num_masked
    assert batch.images.shape[-1] == size


def test_all_cells_and_pairs_of_cells_are_masked_equally_often():
    cropper, random = MaskedCropper(28, 7, 0.25), ImageRandom(image_seeds(0, 20000))
    mask = cropper.sample((28, 28), random).flatten(1).float()
    assert (mask.mean(dim=0) - 0.25).abs().max() < 0.015
    pair = (mask.T @ mask / len(mask))[~torch.eye(16, dtype=torch.bool)]
    assert (pair - 0.25 * 3 / 15).abs().max() < 0.01  # 4 of 16 without replacement


def test_masks_depend_on_the_seed_only():
    cropper = MaskedCropper(28, 4, 0.5)
    first = cropper(VIEWS, 3).mask
    torch.rand(3)
    assert torch.equal(first, cropper(VIEWS, 3).mask)
    assert not torch.equal(first, cropper(VIEWS, 4).mask)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("settings", "message", "suggestion"),
    [
        ((28, 5, 0.5), "mask_patch_size=5", "4"),
        ((28, 0, 0.5), "mask_patch_size=0", "1"),
        ((28, 28, 0.5), "mask_patch_size=28", "14"),
        ((28, 7, 0.0), "mask_ratio=0.0", "0.1"),
        ((28, 14, 0.9), "mask_ratio=0.9", "0.75"),
        ((28, 7, 1.5), "mask_ratio=1.5", "0.9375"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(settings, message, suggestion):
    name = message.partition("=")[0]
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={suggestion}$"
    with pytest.raises(ConfigError, match=pattern) as error:
        MaskedCropper(*settings)
    valid = {"size": 28, "mask_patch_size": settings[1], "mask_ratio": settings[2]}
    MaskedCropper(**valid | {name: error.value.suggest})
