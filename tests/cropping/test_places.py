"""Positions and soft places of exemplar patches against what the cropper cuts, and against grid_sample."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cim_lightning.cropping.boxes import Boxes
from cim_lightning.cropping.places import exemplar_places, soft_places
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds


def coordinate_crops(plain, view: tuple[int, int], **settings):
    """Return crops of images whose two channels are the x and y index of each pixel.

    The boxes are shrunk by a tenth, because pixels outside of the view repeat those at its border.
    """
    y, x = torch.meshgrid(torch.arange(view[0]), torch.arange(view[1]), indexing="ij")
    images = torch.stack((x, y)).to(torch.uint8).expand(5, -1, -1, -1)
    cropper = plain(num_exemplars=4, flip=0.5, **settings)
    params = cropper.sample(view, ImageRandom(image_seeds(7, 5)))
    boxes = dataclasses.replace(params.boxes, size=params.boxes.size * 0.9)
    return cropper.apply(images, dataclasses.replace(params, boxes=boxes))


def patch_means(images: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    """Return the mean (x, y) of each patch of images of coordinates, in view pixels: "... n 2"."""
    means = F.avg_pool2d(images.flatten(0, -4), patch).flatten(-2).transpose(-1, -2)
    return means.unflatten(0, images.shape[:-3]) * 255 + 0.5  # a value of i is position i + 0.5


@pytest.mark.parametrize("view", [(96, 96), (64, 128)])
@pytest.mark.parametrize("patch", [(4, 4), (2, 8)])
def test_the_positions_are_those_that_the_patches_of_an_exemplar_show(plain, view, patch):
    crops = coordinate_crops(plain, view, exemplar_size=16)
    assert 0 < crops.flipped.sum() < crops.flipped.numel()
    assert (crops.boxes.angle.abs() > 0.3).any()
    positions = crops.boxes.positions((16 // patch[0], 16 // patch[1]), crops.flipped)
    torch.testing.assert_close(positions, patch_means(crops.exemplars, patch), atol=1e-3, rtol=0)


def test_the_context_patches_at_the_places_of_an_exemplar_patch_show_the_same_position(plain):
    crops = coordinate_crops(plain, (80, 80), context_size=80, exemplar_size=16)
    places = exemplar_places(crops, (4, 4), (10, 10))
    found = places @ patch_means(crops.context, (8, 8))[:, None]
    shown = patch_means(crops.exemplars, (4, 4))
    inner = ((shown > 4) & (shown < 76)).all(dim=-1)  # between the centers of patches
    assert inner.float().mean() > 0.9
    torch.testing.assert_close(found[inner], shown[inner], atol=1e-3, rtol=0)


def test_positions_of_a_box_by_hand():
    box = Boxes(torch.tensor([[[10.0, 20.0]]]), torch.tensor([[[8.0, 4.0]]]), torch.zeros(1, 1), (40, 40))
    upright = [[8.0, 19], [12, 19], [8, 21], [12, 21]]
    assert box.positions((2, 2))[0, 0].tolist() == upright
    mirrored = box.positions((2, 2), torch.ones(1, 1, dtype=torch.bool))[0, 0]
    assert mirrored.tolist() == [[12, 19], [8, 19], [12, 21], [8, 21]]
    turned = dataclasses.replace(box, angle=torch.full((1, 1), math.pi / 2)).positions((1, 2))[0, 0]
    torch.testing.assert_close(turned, torch.tensor([[10.0, 18], [10, 22]]))  # clockwise: right is down


@pytest.mark.parametrize(
    ("position", "weights"),
    [
        ((4, 4), [0.25, 0.25, 0.25, 0.25]),
        ((2, 2), [1, 0, 0, 0]),
        ((3, 2), [0.75, 0.25, 0, 0]),
        ((2, 5), [0.25, 0, 0.75, 0]),
        ((0.5, 7), [0, 0, 1, 0]),  # outside of the centers: the patch at the border
        ((8, 3), [0, 0.75, 0, 0.25]),
    ],
)
def test_soft_places_in_a_grid_of_2_x_2_by_hand(position, weights):
    places = soft_places(torch.tensor(position, dtype=torch.float32).view(1, 1, 1, 2), (8, 8), (2, 2))
    assert places.flatten().tolist() == weights


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 12), columns=st.integers(1, 12), height=st.integers(1, 300), width=st.integers(1, 300)
)
def test_soft_places_are_the_weights_of_bilinear_sampling(rows, columns, height, width):
    generator = torch.Generator().manual_seed(rows + columns)
    unit = torch.rand(2, 3, 4, 2, generator=generator)
    places = soft_places(unit * torch.tensor([width, height]), (height, width), (rows, columns))
    one_hot = torch.eye(rows * columns).view(1, -1, rows, columns).expand(2, -1, -1, -1)
    sampled = F.grid_sample(one_hot, 2 * unit - 1, "bilinear", "border", align_corners=False)
    torch.testing.assert_close(places, sampled.movedim(1, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(places.sum(dim=-1), torch.ones(2, 3, 4))
    assert (places >= 0).all()
    assert ((places > 0).sum(dim=-1) <= 4).all()


def test_places_are_refused_between_frames(plain, views):
    crops = plain()(torch.stack((views, views), dim=1), 0)
    message = r"^tokens=correlation: .* of the same frame; try data\.max_gap=0$"
    with pytest.raises(ConfigError, match=message):
        exemplar_places(crops, (4, 4), (5, 5))
