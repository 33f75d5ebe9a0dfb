"""Crops of an image whose pixel values are their positions, so a misplaced mask is detected."""

import re

import pytest
import torch

from cim_lightning.data.segmentation_batches import MaskSample
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.segmentation.crops import MaskCrop, RandomScaleCrop

H, W = 60, 90
DEFAULT = {"size": 32, "short_side": 60, "scale": (0.5, 2.0), "flip": 0.5}


def crops(**changes) -> RandomScaleCrop:
    return RandomScaleCrop(**DEFAULT | changes)


def identity(images: torch.Tensor) -> torch.Tensor:
    return images


def positions() -> tuple[torch.Tensor, torch.Tensor]:
    """Channels 0 and 1 are y and x; the mask is the number of the 10 x 10 tile, with 9 tiles per row."""
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    image = torch.stack((y, x, torch.zeros_like(x))).to(torch.uint8)
    return image, (y // 10 * 9 + x // 10).to(torch.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_image_and_mask_have_the_same_crop(seed: int) -> None:
    image, mask = positions()
    cropper = crops()
    crop = cropper.sample(H, W, torch.Generator().manual_seed(seed))
    pixels, labels = cropper.apply(image, mask, crop, identity)
    inside = labels != 255
    assert inside.any()
    y, x = (pixels[:2] * 255)[:, inside]
    # The image is antialiased, so pixels near the edge of a tile may belong to either tile.
    clear = ((y % 10 - 4.5).abs() < 2.5) & ((x % 10 - 4.5).abs() < 2.5)
    assert clear.any()
    assert torch.equal(labels[inside][clear], (y // 10 * 9 + x // 10)[clear].long())
    assert not pixels[:, ~inside].any()


def test_scales_positions_and_flips_have_their_distributions() -> None:
    cropper, generator = crops(), torch.Generator().manual_seed(0)
    samples = [cropper.sample(H, W, generator) for _ in range(500)]
    factors = torch.tensor([c.out_width / c.width for c in samples])
    assert 0.49 < factors.min() < 0.55
    assert 1.9 < factors.max() < 2.1
    assert factors.mean() == pytest.approx(1.25, abs=0.08)
    assert sum(c.flipped for c in samples) / 500 == pytest.approx(0.5, abs=0.07)
    assert min(c.left for c in samples) == 0
    assert max(c.left + c.width for c in samples) == W
    assert all(c.top + c.height <= H and c.left + c.width <= W for c in samples)
    assert all(c.out_height == 32 or c.height == H for c in samples)


def test_the_same_seed_samples_the_same_crop() -> None:
    first, second = (crops().sample(H, W, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second


def test_padding_is_zero_after_normalization_and_ignored() -> None:
    image, mask = positions()
    crop = MaskCrop(0, 0, H, W, 20, 30, flipped=True)
    pixels, labels = crops().apply(image, mask, crop, lambda x: x + 7)
    assert (pixels[:, :20, :30] >= 7).all()
    assert not pixels[:, 20:].any()
    assert not pixels[:, :, 30:].any()
    assert labels[:20, :30].max() < 255
    assert (labels[20:] == 255).all()
    assert (labels[:, 30:] == 255).all()
    assert labels[0, 0] == 8  # flipped: the right end of the first row of tiles


def test_a_batch_may_have_images_of_different_sizes() -> None:
    image, mask = positions()
    samples = [MaskSample(image, mask, 3), MaskSample(image[:, :20, :25], mask[:20, :25], 4)]
    batch = crops().batch(samples, identity)
    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.masks.shape == (2, 32, 32)
    assert batch.masks.dtype == torch.int64
    assert batch.num_images == 2


def test_the_crop_of_a_sample_depends_on_its_seed_only() -> None:
    samples = [MaskSample(*positions(), seed) for seed in (3, 4, 3)]
    images, masks = crops().batch(samples, identity)
    assert torch.equal(images[0], images[2])
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(images[0], images[1])
    reverse = crops().batch(samples[1::-1], identity)
    assert torch.equal(reverse.images, images[[1, 0]])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("size", 0), ("short_side", 0), ("scale", [0.0, 1.0]), ("scale", [2.0, 1.0]), ("flip", 1.5)],
)
def test_invalid_settings_raise(setting: str, value: object) -> None:
    message = re.escape(f"{setting}={value}: ")
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*; try {setting}=[^\n]*$"):
        crops(**{setting: value})
