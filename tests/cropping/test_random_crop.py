"""The footprint of a crop pixel, with images of one white column or row."""

import pytest
import torch

from cim_lightning.cropping.boxes import Boxes
from cim_lightning.cropping.random_crop import crop_and_resize

SIDE = 16  # of the crops


def crop_of_line(pixels: int, line: int, axis: int) -> torch.Tensor:
    """Return a crop row of a view with one white line; a crop pixel has `pixels` pixels of the view."""
    view = SIDE * pixels
    images = torch.zeros(1, 1, view, view)
    images.select(axis, line).fill_(1)
    center = torch.full((1, 1, 2), view / 2)
    boxes = Boxes(center, torch.full((1, 1, 2), float(view)), torch.zeros(1, 1), (view, view))
    crops = crop_and_resize(images, boxes, torch.zeros(1, 1, dtype=torch.bool), SIDE)
    return crops[0, 0, 0].mean(dim=0 if axis == 3 else 1)


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("pixels", [4, 6, 8])
def test_a_crop_pixel_does_not_reach_beyond_its_footprint(pixels, axis):
    """It reaches over half its footprint, and one pixel more by the bilinear interpolation."""
    centers = pixels * (torch.arange(SIDE) + 0.5)
    for line in range(4 * pixels, 6 * pixels):
        seen = crop_of_line(pixels, line, axis)
        distance = (centers - (line + 0.5)).abs()
        assert not seen[distance > pixels / 2 + 1].any()


@pytest.mark.parametrize("pixels", [4, 6, 8])
def test_all_view_pixels_count_about_the_same(pixels):
    """With the footprint of a single sample, most lines would not be seen at all."""
    totals = torch.stack([crop_of_line(pixels, line, 3).sum() for line in range(4 * pixels, 6 * pixels)])
    assert totals.mean().item() == pytest.approx(1 / pixels, rel=1e-4)
    assert totals.min() > 0.4 / pixels


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_crop_of_half_the_size_is_the_mean_of_two_by_two_pixels(pixels):
    """The samples of a crop pixel are at the centers of the view pixels."""
    side = SIDE * pixels
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    boxes = Boxes(
        torch.full((1, 1, 2), side / 2), torch.full((1, 1, 2), float(side)), torch.zeros(1, 1), (side, side)
    )
    crops = crop_and_resize(images, boxes, torch.zeros(1, 1, dtype=torch.bool), SIDE)
    torch.testing.assert_close(crops[:, 0], torch.nn.functional.avg_pool2d(images, pixels))


@pytest.mark.parametrize("axis", [2, 3])
def test_the_samples_of_three_view_pixels_by_hand(axis):
    """Two samples, each 0.75 view pixels off the center: a quarter of a crop pixel."""
    weights = [crop_of_line(3, line, axis)[4].item() for line in range(11, 16)]
    assert weights == pytest.approx([0, 0.75 / 2, 0.25, 0.75 / 2, 0], abs=1e-5)
