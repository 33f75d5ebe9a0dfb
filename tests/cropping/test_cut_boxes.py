"""Cuts of rotated boxes by hand: a view of 100 x 60 pixels, and boxes at 45 degrees."""

import math

import pytest
import torch
from torch import Tensor

from cim_lightning.cropping.boxes import Boxes
from cim_lightning.cropping.cut_boxes import cut_to_view

VIEW = torch.tensor([100.0, 60.0])
ROOT = math.sqrt(2)


def cut(center: tuple[float, float], size: tuple[float, float], degrees: float) -> tuple[Tensor, Tensor]:
    angle = torch.tensor([[math.radians(degrees)]])
    center, size = cut_to_view(torch.tensor([[center]]), torch.tensor([[size]]), angle, VIEW)
    return center[0, 0], size[0, 0]


@pytest.mark.parametrize("degrees", [0.0, 30.0, -45.0, 135.0])
def test_a_box_inside_stays(degrees: float):
    center, size = cut((50.0, 30.0), (20.0, 10.0), degrees)
    torch.testing.assert_close(center, torch.tensor([50.0, 30.0]))
    torch.testing.assert_close(size, torch.tensor([20.0, 10.0]))


def test_an_upright_box_is_clipped_to_the_view():
    center, size = cut((90.0, 10.0), (40.0, 30.0), 0.0)  # from (70, -5) to (110, 25)
    torch.testing.assert_close(center, torch.tensor([85.0, 12.5]))
    torch.testing.assert_close(size, torch.tensor([30.0, 25.0]))


def test_the_side_of_less_area_is_cut():
    # Clockwise by 45 degrees, the top left corner of a box of 20 x 8 at (50, 5) is at y = 5 - 14 / sqrt(2).
    # The view ends 14 - 5 sqrt(2) along either axis from it. Along its width, this costs 8 per pixel, along
    # its height 20.
    center, size = cut((50.0, 5.0), (20.0, 8.0), 45.0)
    shift = 14 - 5 * ROOT
    torch.testing.assert_close(size, torch.tensor([20 - shift, 8.0]))
    torch.testing.assert_close(center, torch.tensor([50.0, 5.0]) + shift / 2 / ROOT)


def test_a_view_of_a_square_leaves_a_mirrored_box_mirrored():
    angle = torch.tensor([[0.5, -0.5]])
    square = torch.tensor([64.0, 64.0])
    center = torch.tensor([[[9.0, 20.0], [55.0, 20.0]]])
    size = torch.tensor([[[30.0, 12.0], [30.0, 12.0]]])
    cut_center, cut_size = cut_to_view(center, size, angle, square)
    torch.testing.assert_close(cut_size[0, 0], cut_size[0, 1])
    torch.testing.assert_close(64 - cut_center[0, 0, 0], cut_center[0, 1, 0])
    torch.testing.assert_close(cut_center[0, 0, 1], cut_center[0, 1, 1])


def test_cut_boxes_are_the_parts_of_boxes_in_the_view():
    generator = torch.Generator().manual_seed(0)
    upright = 5 + torch.rand(20, 30, 2, generator=generator) * 40
    center = upright / 2 + torch.rand(20, 30, 2, generator=generator) * (VIEW - upright)
    angle = (torch.rand(20, 30, generator=generator) - 0.5) * math.pi / 2
    size = upright * angle.cos()[..., None] + upright.flip(-1) * angle.sin().abs()[..., None]
    whole = Boxes(center, size, angle, (60, 100))
    part = Boxes(*cut_to_view(center, size, angle, VIEW), angle, (60, 100))
    assert not (part.rasterize(60, 100) & ~whole.rasterize(60, 100)).any()
    assert torch.maximum(-part.corners, part.corners - VIEW).amax() < 1e-3
    inside = ((whole.corners - VIEW / 2).abs() <= VIEW / 2).all(dim=-1).all(dim=-1)
    assert 100 < inside.sum() < 500
    torch.testing.assert_close(part.size[inside], size[inside])
    assert ((part.size < size - 1e-3).any(dim=-1) == ~inside).all()
