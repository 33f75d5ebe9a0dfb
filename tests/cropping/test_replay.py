"""What is random about crops: drawn once, replayed at will, each part switched off alone."""

import dataclasses
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cim_lightning.cropping.appearance import Appearance


def tensors(item) -> list[torch.Tensor]:
    """Every tensor in a plan or in crops."""
    if isinstance(item, torch.Tensor):
        return [item]
    if isinstance(item, int):
        return []
    parts = item if isinstance(item, tuple) else vars(item).values()
    return [tensor for part in parts for tensor in tensors(part)]


def same(one, other) -> bool:
    assert len(tensors(one)) > 5
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def plan_of(crop, b=20):
    return crop.sample(b, (56, 56), torch.Generator().manual_seed(0))


def test_the_same_plan_gives_the_same_crops(cropper, views):
    crop = cropper()
    plan = plan_of(crop, 4)
    assert same(crop.apply(views, plan), crop.apply(views, plan))


def test_crops_follow_their_seed_alone(cropper, views):
    first = cropper()(views, 7)
    torch.rand(3)  # moves the global stream
    assert same(first, cropper()(views, 7))
    assert not torch.equal(first.maps, cropper()(views, 8).maps)


def test_cropping_leaves_the_global_stream_where_it_stood(cropper, views):
    before = torch.get_rng_state()
    cropper()(views, 7)
    assert torch.equal(before, torch.get_rng_state())


def test_everything_random_differs_between_exemplars(cropper):
    plan = plan_of(cropper(num_exemplars=10), 30)
    boxes, colors = plan.boxes, plan.colors
    for values in (*boxes.center.unbind(dim=-1), *boxes.size.unbind(dim=-1), boxes.angle):
        assert values.unique().numel() > 290
    for factor in (colors.brightness, colors.contrast, colors.saturation, colors.hue, colors.sigma):
        drawn = factor[factor != factor.mode().values]  # all but the neutral value
        assert drawn.unique().numel() > 0.95 * drawn.numel() > 100
    assert len({tuple(order) for order in colors.order.tolist()}) == 24  # every order of four turns up
    for choice in (plan.flipped, colors.grayscale, colors.solarize):
        of_an_image = choice.reshape(30, 10)
        assert (of_an_image.any(dim=1) & ~of_an_image.all(dim=1)).sum() > 15


def test_probabilities_are_those_of_the_settings(cropper):
    plan = plan_of(cropper(flip=0.3), 1000)
    colors = plan.colors
    happens = [
        plan.flipped,
        colors.brightness != 1,
        colors.hue != 0,
        colors.grayscale,
        colors.sigma > 0.01,
        colors.solarize,
    ]
    shares = torch.stack([chosen.float().mean() for chosen in happens])
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.8, 0.8, 0.2, 0.5, 0.2]), atol=0.035, rtol=0)
    for drawn, low, high in (
        (colors.brightness, 0.6, 1.4),
        (colors.contrast, 0.6, 1.4),
        (colors.saturation, 0.8, 1.2),
        (colors.hue, -0.1, 0.1),
        (colors.sigma[colors.sigma > 0.01], 0.1, 2.0),
    ):
        assert low <= drawn.min() < low + 0.02 * (high - low)
        assert high >= drawn.max() > high - 0.02 * (high - low)


def test_images_do_not_see_each_other(cropper, views):
    crop = cropper()
    plan = plan_of(crop, 4)
    whole = crop.apply(views, plan)
    other = crop.apply(torch.cat((views[:1], 255 - views[1:])), plan)
    assert torch.equal(whole.exemplars[0], other.exemplars[0])
    assert torch.equal(whole.context[0], other.context[0])
    assert not torch.equal(whole.exemplars[1], other.exemplars[1])


def test_autocast_changes_no_bit(cropper, views):
    without = cropper()(views, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(without, cropper()(views, 7))


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **kwargs or {})


def test_no_loop_runs_over_images_or_exemplars(cropper, views):
    counts = []
    for b, k in ((2, 2), (4, 2), (2, 7)):
        with Operations() as operations, mock.patch.object(F, "grid_sample", wraps=F.grid_sample) as sampling:
            cropper(num_exemplars=k)(views[:b], 0)
        assert sampling.call_count == 1
        counts.append(operations.count)
    assert counts[0] == counts[1] == counts[2]


def test_rotation_shape_and_scale_switch_off_alone(cropper):
    assert not plan_of(cropper(rotation=0.0)).boxes.angle.any()
    squares = plan_of(cropper(rotation=0.0, ratio=[1.0, 1.0])).boxes
    torch.testing.assert_close(squares.size[..., 0], squares.size[..., 1])
    assert squares.area.std() > 0.05
    fixed = plan_of(cropper(rotation=0.0, scale=[0.2, 0.2])).boxes
    torch.testing.assert_close(fixed.area, torch.full((20, 3), 0.2))
    assert (fixed.size[..., 0] / fixed.size[..., 1]).log().std() > 0.3


def test_flip_switches_off_alone(cropper):
    plan, base = plan_of(cropper(flip=0.0)), plan_of(cropper())
    assert base.flipped.any()
    assert not plan.flipped.any()
    assert same(dataclasses.replace(plan, flipped=base.flipped), base)


def test_normalisation_switches_off_alone(cropper, views):
    raw, normalized = cropper(normalize=None)(views, 7), cropper()(views, 7)
    assert 0 <= raw.exemplars.min() <= raw.exemplars.max() <= 1
    torch.testing.assert_close((raw.exemplars - 0.45) / 0.22, normalized.exemplars)
    torch.testing.assert_close((raw.context - 0.45) / 0.22, normalized.context)
    assert torch.equal(raw.maps, normalized.maps)


def test_normalisation_takes_each_channel_by_its_own_mean(cropper, views):
    means = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    shifted = cropper(normalize=lambda images: images - means)(views, 7)
    raw = cropper(normalize=None)(views, 7)
    torch.testing.assert_close(shifted.exemplars, raw.exemplars - means)
    torch.testing.assert_close(shifted.context, raw.context - means)


def test_appearance_switches_off_alone_and_never_touches_the_context(cropper, views):
    plain, colored = cropper(appearance=None)(views, 7), cropper()(views, 7)
    assert not torch.equal(plain.exemplars, colored.exemplars)
    assert torch.equal(plain.context, colored.context)
    assert torch.equal(plain.maps, colored.maps)


def test_appearance_of_probability_0_is_none(cropper, views, paper_looks):
    never = Appearance(**paper_looks | {"jitter_prob": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0})
    assert same(cropper(appearance=never)(views, 7), cropper(appearance=None)(views, 7))


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
def test_each_look_switches_off_alone_and_leaves_the_other_draws(
    cropper, paper_looks, setting, fields, neutral
):
    base = plan_of(cropper()).colors
    without = plan_of(cropper(appearance=Appearance(**paper_looks | {setting: 0.0}))).colors
    for field in fields:
        drawn = getattr(without, field)
        assert torch.equal(drawn, torch.full_like(drawn, neutral))
        assert not torch.equal(drawn, getattr(base, field))
    if setting == "jitter_prob":
        assert not without.hue.any()
        fields = [*fields, "hue"]
    assert same(dataclasses.replace(without, **{field: getattr(base, field) for field in fields}), base)
