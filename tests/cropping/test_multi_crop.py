"""Several crops of a view: where they come from, told by their own values, and what each kind colors like."""

import re

import pytest
import torch

from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.multi_crop import MultiCropper, RandomCrops
from cim_lightning.errors import ConfigError


def kind(count=1, size=16, scale=(0.2, 1.0), flip=0.0, appearance=None) -> RandomCrops:
    return RandomCrops(count, size, list(scale), [0.75, 4 / 3], flip, appearance)


def coordinates(b: int, side: int) -> torch.Tensor:
    """Images whose channels are each pixel's own x and y index, and a constant."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((x, y, torch.full_like(x, 50))).to(torch.uint8).expand(b, -1, -1, -1)


def test_crops_are_upright_boxes_of_the_share_and_shape_asked_for():
    cropper = MultiCropper(kind(), kind(), kind(7, 8, (0.05, 0.2)))
    plans = cropper.sample(300, (60, 60), torch.Generator().manual_seed(0))
    for plan, (low, high) in zip(plans, ((0.2, 1), (0.2, 1), (0.05, 0.2)), strict=True):
        assert (plan.boxes.angle == 0).all()
        assert plan.boxes.area.min() >= low - 1e-4
        assert plan.boxes.area.max() <= high + 1e-4
        ratio = plan.boxes.size[..., 0] / plan.boxes.size[..., 1]
        assert ratio.min() >= 0.75 - 1e-4
        assert ratio.max() <= 4 / 3 + 1e-4


def test_a_crops_values_are_the_places_it_was_cut_from():
    views = coordinates(3, 60)
    cropper = MultiCropper(kind(), kind(flip=1.0), kind(4, 8, (0.05, 0.2)))
    plans = cropper.sample(3, (60, 60), torch.Generator().manual_seed(2))
    crops = cropper.apply(views, plans)
    seen = (crops.first[:, None], crops.second[:, None], crops.small)
    for plan, cut, side, mirror in zip(plans, seen, (16, 16, 8), (1, -1, 1), strict=True):
        places = (torch.arange(side) + 0.5) / side - 0.5
        for axis, along in ((0, -1), (1, -2)):
            turn = mirror if axis == 0 else 1
            wanted = (
                plan.boxes.center[..., axis, None] + turn * plan.boxes.size[..., axis, None] * places - 0.5
            )
            told = cut[:, :, axis].movedim(along, -1).mean(dim=-2) * 255
            inner = (wanted > 1) & (wanted < 58)
            assert inner.any()
            assert (told - wanted)[inner].abs().max() < 0.6
    assert crops.small.shape == (3, 4, 3, 8, 8)


def test_every_crop_differs_and_all_follow_the_seed_alone():
    cropper = MultiCropper(kind(), kind(), kind(3, 8))
    views = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    one, again, other = cropper(views, 5), cropper(views, 5), cropper(views, 6)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.first, other.first)
    assert not torch.equal(one.first, one.second)
    assert not torch.equal(one.small[:, 0], one.small[:, 1])


def test_each_kind_has_colors_of_its_own():
    always = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "jitter_prob": 0, "blur": 0}
    inverted = Appearance(**always, grayscale=0, blur_sigma=[1, 1], solarize=1)
    gray = Appearance(**always, grayscale=1, blur_sigma=[1, 1], solarize=0)
    views = torch.tensor([200, 40, 10], dtype=torch.uint8)[:, None, None].expand(2, 3, 30, 30)
    crops = MultiCropper(kind(appearance=inverted), kind(appearance=gray), normalize=lambda x: x * 255)(
        views, 0
    )
    color = crops.first[0, :, 5, 5]
    torch.testing.assert_close(color, torch.tensor([55.0, 40, 10]), atol=0.01, rtol=0)
    assert (crops.second.std(dim=1) < 0.01).all()
    assert crops.small is None


@pytest.mark.parametrize(
    ("make", "told", "nearest"),
    [
        (lambda: MultiCropper(kind(2), kind()), "cropping.first.count=2", "1"),
        (lambda: MultiCropper(kind(), kind(size=8)), "cropping.second.size=8", "16"),
        (lambda: MultiCropper(kind(), kind(), kind(3, 17)), "cropping.small.size=17", "16"),
        (lambda: kind(0), "count=0", "1"),
        (lambda: kind(flip=2.0), "flip=2.0", "1"),
    ],
)
def test_a_mistake_gets_one_line(make, told, nearest):
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}: [^\n]*try {nearest}$"):
        make()
