"""Resized views: like Pillow's, and unchanged at the right size."""

import pytest
import torch
from PIL import Image

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError


def test_views_of_the_right_size_are_only_scaled_to_0_1():
    views = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    assert torch.equal(ResizeCropper(20)(views, 0).images, views.float() / 255)


def test_other_sizes_are_resized_like_pillow():
    """The values are grays without overshoot beyond black and white, which Pillow clips after each axis."""
    views = torch.randint(64, 192, (1, 3, 40, 40), dtype=torch.uint8)
    pillow = Image.fromarray(views[0].permute(1, 2, 0).numpy()).resize((17, 17), Image.Resampling.BICUBIC)
    expected = (
        torch.frombuffer(bytearray(pillow.tobytes()), dtype=torch.uint8).view(17, 17, 3).permute(2, 0, 1)
    )
    # Pillow rounds to whole numbers after each axis.
    assert (ResizeCropper(17)(views, 0).images[0] * 255 - expected).abs().max() < 1.2


def test_normalization_comes_last():
    views = torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    images = ResizeCropper(8, normalize=lambda x: x * 10 - 1)(views, 0).images
    torch.testing.assert_close(images, torch.ones(1, 3, 8, 8))


def test_a_size_of_0_is_refused():
    with pytest.raises(ConfigError, match=r"^size=0: .*; try size=1$"):
        ResizeCropper(0)
