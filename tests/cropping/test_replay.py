"""Random parameters of crops: sampled once, replayed, and switched off one by one."""

import dataclasses
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cim_lightning.cropping.appearance import Appearance
from cim_lightning.image_random import ImageRandom, image_seeds


def tensors(item) -> list[torch.Tensor]:
    """Return every tensor in parameters or crops."""
    if isinstance(item, torch.Tensor):
        return [item]
    if item is None or isinstance(item, int):
        return []
    parts = item if isinstance(item, tuple) else vars(item).values()
    return [tensor for part in parts for tensor in tensors(part)]


def equal(first, second) -> bool:
    assert len(tensors(first)) > 5
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def sample_params(crop, b=20):
    return crop.sample((56, 56), ImageRandom(image_seeds(0, b)))


def test_the_same_parameters_give_the_same_crops(cropper, views):
    crop = cropper()
    params = sample_params(crop, 4)
    assert equal(crop.apply(views, params), crop.apply(views, params))


def test_crops_depend_on_the_seed_only(cropper, views):
    first = cropper()(views, 7)
    torch.rand(3)  # changes the global random stream
    assert equal(first, cropper()(views, 7))
    assert not torch.equal(first.maps, cropper()(views, 8).maps)


def test_cropping_leaves_the_global_random_stream(cropper, views):
    before = torch.get_rng_state()
    cropper()(views, 7)
    assert torch.equal(before, torch.get_rng_state())


def test_all_parameters_differ_between_exemplars(cropper):
    params = sample_params(cropper(num_exemplars=10), 30)
    boxes, colors = params.boxes, params.colors
    for values in (*boxes.center.unbind(dim=-1), *boxes.size.unbind(dim=-1), boxes.angle):
        assert values.unique().numel() > 280  # some boxes are as wide as the view
    for factor in (colors.brightness, colors.contrast, colors.saturation, colors.hue, colors.sigma):
        sampled = factor[factor != factor.mode().values]  # without the neutral value
        assert sampled.unique().numel() > 0.95 * sampled.numel() > 100
    assert len({tuple(order) for order in colors.order.tolist()}) == 24  # every order of four occurs
    for choice in (params.flipped, colors.grayscale, colors.solarize):
        per_image = choice.reshape(30, 10)
        assert (per_image.any(dim=1) & ~per_image.all(dim=1)).sum() > 15


def test_probabilities_match_the_settings(cropper):
    params = sample_params(cropper(flip=0.3), 1000)
    colors = params.colors
    happens = [
        params.flipped,
        colors.brightness != 1,
        colors.hue != 0,
        colors.grayscale,
        colors.sigma > 0.01,
        colors.solarize,
    ]
    shares = torch.stack([chosen.float().mean() for chosen in happens])
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.8, 0.8, 0.2, 0.5, 0.2]), atol=0.035, rtol=0)
    for sampled, low, high in (
        (colors.brightness, 0.6, 1.4),
        (colors.contrast, 0.6, 1.4),
        (colors.saturation, 0.8, 1.2),
        (colors.hue, -0.1, 0.1),
        (colors.sigma[colors.sigma > 0.01], 0.1, 2.0),
    ):
        assert low <= sampled.min() < low + 0.02 * (high - low)
        assert high >= sampled.max() > high - 0.02 * (high - low)


def test_images_are_cropped_independently(cropper, views):
    crop = cropper()
    params = sample_params(crop, 4)
    first = crop.apply(views, params)
    second = crop.apply(torch.cat((views[:1], 255 - views[1:])), params)
    assert torch.equal(first.exemplars[0], second.exemplars[0])
    assert torch.equal(first.context[0], second.context[0])
    assert not torch.equal(first.exemplars[1], second.exemplars[1])


def test_autocast_changes_no_bit(cropper, views):
    without = cropper()(views, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal(without, cropper()(views, 7))


class Operations(TorchDispatchMode):
    """Counts the operations that torch runs."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **kwargs or {})


def test_no_loop_runs_over_images_or_exemplars(cropper, views):
    counts = []
    for b, k in ((2, 2), (4, 2), (2, 6)):
        with Operations() as operations, mock.patch.object(F, "grid_sample", wraps=F.grid_sample) as sampling:
            cropper(num_exemplars=k)(views[:b], 0)
        assert sampling.call_count == 1
        counts.append(operations.count)
    assert counts[0] == counts[1] == counts[2]


def test_rotation_ratio_and_scale_can_be_fixed_alone(cropper):
    assert not sample_params(cropper(rotation=0.0)).boxes.angle.any()
    squares = sample_params(cropper(rotation=0.0, ratio=[1.0, 1.0])).boxes
    torch.testing.assert_close(squares.size[..., 0], squares.size[..., 1])
    assert squares.area.std() > 0.05
    fixed = sample_params(cropper(rotation=0.0, scale=[0.2, 0.2])).boxes
    torch.testing.assert_close(fixed.area, torch.full((20, 3), 0.2))
    assert (fixed.size[..., 0] / fixed.size[..., 1]).log().std() > 0.3


def test_flip_can_be_switched_off_alone(cropper):
    params, base = sample_params(cropper(flip=0.0)), sample_params(cropper())
    assert base.flipped.any()
    assert not params.flipped.any()
    assert equal(dataclasses.replace(params, flipped=base.flipped), base)


def test_images_are_in_0_to_1(cropper, views):
    crops = cropper()(views, 7)
    for images in (crops.exemplars, crops.context):
        assert 0 <= images.min() < 0.2 < 0.8 < images.max() <= 1


def test_appearance_can_be_switched_off_alone_and_does_not_change_the_context(cropper, views):
    plain, colored = cropper(appearance=None)(views, 7), cropper()(views, 7)
    assert not torch.equal(plain.exemplars, colored.exemplars)
    assert torch.equal(plain.context, colored.context)
    assert torch.equal(plain.maps, colored.maps)


def test_appearance_with_probability_0_changes_nothing(cropper, views, paper_colors):
    never = Appearance(**paper_colors | {"jitter_prob": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0})
    assert equal(cropper(appearance=never)(views, 7), cropper(appearance=None)(views, 7))


SWITCHES = [
    ("brightness", ["brightness"], 1),
    ("contrast", ["contrast"], 1),
    ("saturation", ["saturation"], 1),
    ("hue", ["hue"], 0),
    ("jitter_prob", ["brightness", "contrast", "saturation"], 1),
    ("grayscale", ["grayscale"], False),
    ("blur", ["sigma"], 1e-3),
    ("solarize", ["solarize"], False),
]


@pytest.mark.parametrize(("setting", "fields", "neutral"), SWITCHES)
def test_switching_an_operation_off_does_not_change_the_other_samples(
    cropper, paper_colors, setting, fields, neutral
):
    base = sample_params(cropper()).colors
    without = sample_params(cropper(appearance=Appearance(**paper_colors | {setting: 0.0}))).colors
    for field in fields:
        values = getattr(without, field)
        assert torch.equal(values, torch.full_like(values, neutral))
        assert not torch.equal(values, getattr(base, field))
    if setting == "jitter_prob":
        assert not without.hue.any()
        fields = [*fields, "hue"]
    assert equal(dataclasses.replace(without, **{field: getattr(base, field) for field in fields}), base)
