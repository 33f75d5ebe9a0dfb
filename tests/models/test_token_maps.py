"""Maps from token similarities: single tokens by hand, and tokens at the places of boxes."""

import pytest
import torch

from cim_lightning.cropping.boxes import BoxSampler
from cim_lightning.cropping.correlation_metrics import iou_and_pointing
from cim_lightning.cropping.places import soft_places
from cim_lightning.image_random import ImageRandom, image_seeds
from cim_lightning.models.token_maps import token_maps


def test_a_token_in_one_patch_is_a_disk_about_the_center_of_the_patch():
    """The kernel has the smallest width, half a patch, and half of its maximum at 0.589 patches."""
    places = torch.zeros(1, 2, 1, 12)  # of a grid of 3 x 4 patches of 3 pixels
    places[0, 0, 0, 6] = places[0, 1, 0, 0] = 1  # row 1 and column 2; row 0 and column 0
    maps = token_maps(places, (3, 4), (9, 12))
    assert maps.shape == (1, 2, 9, 12)
    assert maps.isfinite().all()
    y, x = torch.meshgrid(torch.arange(9) + 0.5, torch.arange(12) + 0.5, indexing="ij")
    for logits, (center_y, center_x) in zip(maps[0], ((4.5, 7.5), (1.5, 1.5)), strict=True):
        distance = ((y - center_y) ** 2 + (x - center_x) ** 2).sqrt()
        assert torch.equal(logits > 0, distance < 0.589 * 3)
        share = torch.exp(-((distance / 1.5) ** 2) / 2).clamp(1e-6, 1 - 1e-6)
        torch.testing.assert_close(logits.sigmoid(), share, atol=1e-5, rtol=0)


def test_autocast_changes_no_map():
    places = torch.rand(2, 3, 4, 25, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    expected = token_maps(places, (5, 5), (20, 20))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(token_maps(places, (5, 5), (20, 20)), expected)


@pytest.mark.parametrize(("tokens", "expected"), [(2, 0.83), (4, 0.86), (8, 0.89)])
def test_tokens_at_the_places_of_a_box_fill_the_box(tokens, expected):
    random = ImageRandom(image_seeds(0, 32))
    boxes = BoxSampler((0.05, 0.48), (1 / 3, 3.0), 45).sample(6, (160, 160), random)
    places = soft_places(boxes.positions((tokens, tokens)), (160, 160), (10, 10))
    metrics = iou_and_pointing(token_maps(places, (10, 10), (80, 80)), boxes.rasterize(80, 80))
    assert metrics["iou"] > expected
    assert metrics["pointing"] > 0.99


def test_operations_are_counted_on_the_meta_device():
    assert token_maps(torch.ones(2, 3, 4, 6, device="meta"), (2, 3), (8, 12)).shape == (2, 3, 8, 12)
