"""Resized views against Pillow; views of the requested size are not resized."""

import pytest
import torch
from PIL import Image

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError


def test_views_of_the_requested_size_are_only_divided_by_255():
    views = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    assert torch.equal(ResizeCropper(20)(views, 0).images, views.float() / 255)


def test_other_sizes_are_resized_like_pillow():
    """Values in 64..192 cannot overshoot 0..255, where Pillow would clip after each axis."""
    views = torch.randint(64, 192, (1, 3, 40, 40), dtype=torch.uint8)
    pillow = Image.fromarray(views[0].permute(1, 2, 0).numpy()).resize((17, 17), Image.Resampling.BICUBIC)
    expected = (
        torch.frombuffer(bytearray(pillow.tobytes()), dtype=torch.uint8).view(17, 17, 3).permute(2, 0, 1)
    )
    # Pillow rounds to integers after each axis.
    assert (ResizeCropper(17)(views, 0).images[0] * 255 - expected).abs().max() < 1.2


def test_a_size_of_0_is_refused():
    with pytest.raises(ConfigError, match=r"^size=0: .*; try size=1$"):
        ResizeCropper(0)
