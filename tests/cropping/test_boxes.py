"""Rotated boxes against geometry by hand, slow transcriptions and the published distribution."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds


def sample(scale, ratio, rotation, b=50, k=100, view=(224, 224), seed=0) -> Boxes:
    return BoxSampler(scale, ratio, rotation).sample(k, view, ImageRandom(image_seeds(seed, b)))


def one_box(center, size, degrees, view) -> Boxes:
    tensors = (torch.tensor([[values]], dtype=torch.float32) for values in (center, size))
    return Boxes(*tensors, torch.tensor([[math.radians(degrees)]]), view)


def distance_to_uniform(samples: torch.Tensor, low: float, high: float) -> float:
    """Return the Kolmogorov-Smirnov distance of samples to the uniform distribution."""
    ranks = torch.linspace(0, 1, samples.numel())
    return ((samples.flatten().sort().values - low) / (high - low) - ranks).abs().max().item()


def test_corners_of_a_box_after_a_quarter_turn():
    # a quarter turn moves the top left corner to the top right
    corners = one_box((10, 20), (4, 2), 90, (40, 30)).corners[0, 0]
    torch.testing.assert_close(corners, torch.tensor([[11.0, 18], [11, 22], [9, 22], [9, 18]]))


def test_area_is_a_share_of_the_view():
    assert one_box((10, 20), (4, 3), 30, (40, 30)).area.item() == pytest.approx(12 / 1200)


def test_slicing_selects_the_boxes_of_views():
    boxes = sample((0.1, 0.3), (0.5, 2.0), 30, b=5, k=2)
    part = boxes[1:3]
    assert torch.equal(part.corners, boxes.corners[1:3])
    assert part.view == boxes.view


def test_autocast_does_not_round_the_geometry():
    boxes = sample((0.05, 0.48), (1 / 3, 3.0), 45, b=4, k=6)
    maps, corners, area = boxes.rasterize(160, 160), boxes.corners, boxes.area
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(boxes.corners, corners)
        assert torch.equal(boxes.area, area)
        assert torch.equal(boxes.rasterize(160, 160), maps)


sides = st.integers(8, 400)
spans = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)
ratios = st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)).map(sorted)


@settings(max_examples=100, deadline=None)
@given(
    scale=spans, ratio=ratios, rotation=st.floats(0, 180), height=sides, width=sides, seed=st.integers(0, 99)
)
def test_every_corner_is_inside_the_view(scale, ratio, rotation, height, width, seed):
    boxes = sample(scale, ratio, rotation, b=3, k=40, view=(height, width), seed=seed)
    x, y = boxes.corners.unbind(dim=-1)
    slack = 1e-3
    assert x.min() >= -slack
    assert x.max() <= width + slack
    assert y.min() >= -slack
    assert y.max() <= height + slack
    assert (boxes.size > 0).all()


def test_maps_cover_the_area_of_the_boxes():
    boxes = sample((0.05, 0.48), (1 / 3, 3.0), 45.0, b=10, k=20)
    share = boxes.rasterize(160, 160).float().mean(dim=(-2, -1))
    torch.testing.assert_close(share, boxes.area, atol=0.01, rtol=0)


@pytest.mark.parametrize("view", [(224, 224), (120, 150)])
def test_upright_boxes_are_uniform_in_area_log_ratio_and_position(view):
    # up to 0.2 of the view at ratio 2 or 1/2, every draw fits, so there is no redraw
    boxes = sample((0.05, 0.2), (0.5, 2.0), 0.0, view=view)
    limit = 1.63 / math.sqrt(boxes.angle.numel())  # 1 % of uniform samples exceed this
    assert not boxes.angle.any()
    assert distance_to_uniform(boxes.area, 0.05, 0.2) < limit
    ratio = (boxes.size[..., 0] / boxes.size[..., 1]).log()
    assert distance_to_uniform(ratio, -math.log(2), math.log(2)) < limit
    free = torch.tensor([view[1], view[0]]) - boxes.size
    position = (boxes.center - boxes.size / 2) / free
    assert distance_to_uniform(position[..., 0], 0, 1) < limit
    assert distance_to_uniform(position[..., 1], 0, 1) < limit


def test_upright_boxes_have_the_scale_and_ratio_of_the_settings():
    boxes = sample((0.05, 0.48), (1 / 3, 3.0), 0.0)
    ratio = boxes.size[..., 0] / boxes.size[..., 1]
    assert boxes.area.min() >= 0.05 * 0.9999
    assert boxes.area.max() <= 0.48 * 1.0001
    assert ratio.min() >= 0.9999 / 3
    assert ratio.max() <= 3.0001


def test_an_upright_box_that_does_not_fit_is_redrawn_not_clipped():
    boxes = sample((0.05, 0.48), (1 / 3, 3.0), 0.0)  # 1 of 18 single draws does not fit
    assert (boxes.size >= 223.99).any(dim=-1).float().mean() < 0.002


def test_angles_are_uniform_in_both_directions():
    angle = sample((0.05, 0.48), (1 / 3, 3.0), 30.0).angle
    limit = 1.63 / math.sqrt(angle.numel())
    assert distance_to_uniform(angle, -math.pi / 6, math.pi / 6) < limit


def test_a_small_rotated_box_encloses_the_upright_box():
    # far from the edges, the square at angle t that encloses a square is (cos t + sin t) times as wide
    boxes = sample((0.01, 0.01), (1.0, 1.0), 45.0, view=(100, 100))
    away = ((boxes.center - 50).abs() < 35).all(dim=-1)
    assert away.float().mean() > 0.3
    wide = 10 * (boxes.angle.abs().cos() + boxes.angle.abs().sin())
    torch.testing.assert_close(boxes.size[away], wide[away][:, None].expand(-1, 2), atol=1e-3, rtol=0)


def test_a_box_that_never_fits_is_clipped_to_the_view():
    boxes = sample((1.0, 1.0), (9.0, 9.0), 0.0, view=(50, 70))  # 1.0 of the view at ratio 9: 177 x 20
    torch.testing.assert_close(boxes.size[..., 0], torch.full((50, 100), 70.0))
    torch.testing.assert_close(boxes.size[..., 1], torch.full((50, 100), math.sqrt(3500 / 9)))


def slow_rasterize(
    corners: list[list[float]], view, height, width
) -> tuple[list[list[bool]], list[list[bool]]]:
    """Return which pixel centers are inside all four edges, and which are too close to an edge to decide."""
    inside, close = [], []
    for row in range(height):
        inside.append([])
        close.append([])
        for column in range(width):
            x, y = (column + 0.5) * view[1] / width, (row + 0.5) * view[0] / height
            sides = []
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                across = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
                sides.append(across / math.hypot(x1 - x0, y1 - y0))  # distance from the edge, inwards
            inside[-1].append(min(sides) >= 0)
            close[-1].append(abs(min(sides)) < 1e-3)
    return inside, close


@pytest.mark.parametrize("view", [(224, 224), (61, 97), (128, 32)])
@pytest.mark.parametrize("raster", [(31, 31), (13, 29)])
def test_rasterize_matches_a_slow_inside_test(view, raster):
    boxes = sample((0.02, 0.5), (1 / 3, 3.0), 180.0, b=2, k=3, view=view)
    maps = boxes.rasterize(*raster)
    assert maps.shape == (2, 3, *raster)
    for corners, mask in zip(boxes.corners.flatten(0, 1).tolist(), maps.flatten(0, 1), strict=True):
        inside, close = slow_rasterize(corners, view, *raster)
        wrong = (mask != torch.tensor(inside)) & ~torch.tensor(close)
        assert not wrong.any()


def test_rasterize_includes_the_edges_of_a_box():
    # x 1.5..3.5 and y 0.5..1.5 on a 4 x 6 view: centers 1.5, 2.5, 3.5 across and 0.5, 1.5 down
    mask = one_box((2.5, 1), (2, 1), 0, (4, 6)).rasterize(4, 6)[0, 0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[0:2, 1:4] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ("mistake", "message", "suggestion"),
    [
        ({"scale": [0.5, 0.2]}, "scale=[0.5, 0.2]", "[0.05, 0.48]"),
        ({"scale": [0.05, 1.5]}, "scale=[0.05, 1.5]", "[0.05, 0.48]"),
        ({"scale": [0.0, 0.5]}, "scale=[0.0, 0.5]", "[0.05, 0.48]"),
        ({"scale": [0.1, 0.2, 0.3]}, "scale=[0.1, 0.2, 0.3]", "[0.05, 0.48]"),
        ({"scale": []}, "scale=[]", "[0.05, 0.48]"),
        ({"ratio": [3.0, 0.5]}, "ratio=[3.0, 0.5]", "[0.5, 2.0]"),
        ({"ratio": [-1.0, 2.0]}, "ratio=[-1.0, 2.0]", "[0.5, 2.0]"),
        ({"ratio": [1.0, math.inf]}, "ratio=[1.0, inf]", "[0.5, 2.0]"),
        ({"rotation": 181.0}, "rotation=181.0", "180"),
        ({"rotation": -1.0}, "rotation=-1.0", "0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(mistake, message, suggestion):
    valid = {"scale": [0.05, 0.48], "ratio": [0.5, 2.0], "rotation": 45.0}
    (name,) = mistake
    pattern = f"^{re.escape(message)}: [^\n]*; try {name}={re.escape(suggestion)}$"
    with pytest.raises(ConfigError, match=pattern) as error:
        BoxSampler(**valid | mistake)
    BoxSampler(**valid | {name: error.value.suggest})
