"""Global and local crops: positions from coordinate images, seeds and colors."""

import re

import pytest
import torch

from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import RandomCrop
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds

LOCAL = (0.05, 0.2)  # scale of the local crops


def crop(size=16, scale=(0.2, 1.0), flip=0.0, appearance=None) -> RandomCrop:
    return RandomCrop(size, list(scale), [0.75, 4 / 3], flip, appearance)


def coordinates(b: int, side: int) -> torch.Tensor:
    """Return images whose channels are the x and y index of each pixel, and a constant."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((x, y, torch.full_like(x, 50))).to(torch.uint8).expand(b, -1, -1, -1)


def test_crops_are_upright_boxes_with_the_scale_and_ratio_of_the_settings():
    cropper = MultiCropper(crop(), crop(), crop(8, LOCAL), 7)
    kinds = cropper.sample((60, 60), ImageRandom(image_seeds(0, 300)))
    assert [params.flipped.shape[1] for params in kinds] == [1, 1, 7]
    for params, (low, high) in zip(kinds, ((0.2, 1), (0.2, 1), LOCAL), strict=True):
        assert (params.boxes.angle == 0).all()
        assert params.boxes.area.min() >= low - 1e-4
        assert params.boxes.area.max() <= high + 1e-4
        ratio = params.boxes.size[..., 0] / params.boxes.size[..., 1]
        assert ratio.min() >= 0.75 - 1e-4
        assert ratio.max() <= 4 / 3 + 1e-4


def test_crops_of_coordinate_images_match_the_positions_of_their_boxes():
    views = coordinates(3, 60)
    cropper = MultiCropper(crop(), crop(flip=1.0), crop(8, LOCAL), 4)
    kinds = cropper.sample((60, 60), ImageRandom(image_seeds(2, 3)))
    batch = cropper.apply(views, kinds)
    crops = (*batch.global_crops[:, :, None], batch.local_crops)
    for params, values, side, mirror in zip(kinds, crops, (16, 16, 8), (1, -1, 1), strict=True):
        positions = (torch.arange(side) + 0.5) / side - 0.5
        for axis, along in ((0, -1), (1, -2)):
            sign = mirror if axis == 0 else 1
            center, size = params.boxes.center[..., axis, None], params.boxes.size[..., axis, None]
            expected = center + sign * size * positions - 0.5
            actual = values[:, :, axis].movedim(along, -1).mean(dim=-2) * 255
            inner = (expected > 1) & (expected < 58)
            assert inner.any()
            assert (actual - expected)[inner].abs().max() < 0.6
    assert batch.global_crops.shape == (2, 3, 3, 16, 16)
    assert batch.local_crops.shape == (3, 4, 3, 8, 8)


def test_crops_of_a_view_differ_and_depend_on_the_seed_only():
    cropper = MultiCropper(crop(), crop(), crop(8), 3)
    views = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    first, repeated, changed = cropper(views, 5), cropper(views, 5), cropper(views, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, repeated, strict=True))
    assert not torch.equal(first.global_crops[0], changed.global_crops[0])
    assert not torch.equal(first.global_crops[0], first.global_crops[1])
    assert not torch.equal(first.local_crops[:, 0], first.local_crops[:, 1])


def test_each_kind_of_crops_has_its_own_colors():
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "jitter_prob": 0, "blur": 0}
    inverted = Appearance(**off, grayscale=0, blur_sigma=[1, 1], solarize=1)
    gray = Appearance(**off, grayscale=1, blur_sigma=[1, 1], solarize=0)
    views = torch.tensor([200, 40, 10], dtype=torch.uint8)[:, None, None].expand(2, 3, 30, 30)
    crops = crop(appearance=inverted), crop(appearance=gray)
    batch = MultiCropper(*crops, None, 0)(views, 0)
    color = 255 * batch.global_crops[0, 0, :, 5, 5]
    torch.testing.assert_close(color, torch.tensor([55.0, 40, 10]), atol=0.01, rtol=0)
    assert (255 * batch.global_crops[1].std(dim=1) < 0.01).all()


@pytest.mark.parametrize("local_crop", [None, crop(8)])
def test_global_crops_do_not_depend_on_local_crops(local_crop):
    views = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    without = MultiCropper(crop(), crop(), local_crop, 0)(views, 5)
    assert without.local_crops is None
    assert torch.equal(without.global_crops, MultiCropper(crop(), crop(), crop(8), 3)(views, 5).global_crops)


@pytest.mark.parametrize(
    ("build", "message", "suggestion"),
    [
        (lambda: MultiCropper(crop(), crop(), crop(8), -1), "num_local_crops=-1", "num_local_crops=0"),
        (lambda: MultiCropper(crop(), crop(), None, 2), "num_local_crops=2", "num_local_crops=0"),
        (lambda: MultiCropper(crop(), crop(size=8), None, 0), "size=8", "size=16"),
        (lambda: MultiCropper(crop(), crop(), crop(17), 3), "size=17", "size=16"),
        (lambda: crop(size=0), "size=0", "size=1"),
        (lambda: crop(flip=2.0), "flip=2.0", "flip=1.0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(build, message, suggestion):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}: [^\n]*; try {re.escape(suggestion)}$"):
        build()
