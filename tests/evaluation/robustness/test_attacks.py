"""Attacks: closed forms for a linear classifier, bounds and losses for a nonlinear one."""

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.robustness.attacks import fgsm, pgd


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear() -> tuple[nn.Module, torch.Tensor]:
    """A classifier of two classes, and for each class the other class's weights minus its own."""
    layer = nn.Linear(3 * 5 * 7, 2)
    nn.init.normal_(layer.weight, generator=seeded(3))
    difference = (layer.weight[[1, 0]] - layer.weight).detach().view(2, 3, 5, 7)
    return nn.Sequential(nn.Flatten(), layer), difference


IMAGES = torch.rand(4, 3, 5, 7, generator=seeded(1))
LABELS = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("radius", [0, 1 / 255, 0.1, 0.7, 1])
def test_fgsm_on_a_linear_classifier_has_a_closed_form(radius):
    # The gradient of the cross-entropy is (1 - p) (w_other - w_own), and 1 - p > 0.
    model, difference = linear()
    expected = (IMAGES + radius * difference[LABELS].sign()).clamp(0, 1)
    assert torch.equal(fgsm(model, IMAGES, LABELS, radius), expected)


def test_pgd_on_a_linear_classifier_reaches_the_same_corner():
    model, difference = linear()
    expected = (IMAGES + 0.1 * difference[LABELS].sign()).clamp(0, 1)
    torch.testing.assert_close(pgd(model, IMAGES, LABELS, 0.1, 8, 0.25, seeded(5)), expected)


def test_pgd_starts_at_random_and_steps_by_the_step_size():
    model, difference = linear()
    inner = 0.3 + 0.4 * IMAGES  # so that 0..1 clamps nothing
    start = 0.1 * (2 * torch.rand(inner.shape, generator=seeded(5)) - 1)
    expected = inner + (start + 0.01 * difference[LABELS].sign()).clamp(-0.1, 0.1)
    torch.testing.assert_close(pgd(model, inner, LABELS, 0.1, 1, 0.1, seeded(5)), expected)
    another = pgd(model, inner, LABELS, 0.1, 1, 0.1, seeded(6))
    assert (another - expected).abs().max() > 0.01


def nonlinear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Flatten(), nn.Linear(8 * 3 * 5, 3)
    ).eval()


@pytest.mark.parametrize("radius", [1 / 255, 8 / 255, 0.3])
def test_attacked_images_stay_in_the_ball_and_raise_the_loss(radius):
    model = nonlinear()
    loss = nn.CrossEntropyLoss()
    for attacked in (
        fgsm(model, IMAGES, LABELS, radius),
        pgd(model, IMAGES, LABELS, radius, 20, 0.25, seeded()),
    ):
        assert (attacked - IMAGES).abs().max() <= radius + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert loss(model(attacked), LABELS) > loss(model(IMAGES), LABELS)
        assert not attacked.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not IMAGES.requires_grad


def test_normalized_images_are_an_error():
    with pytest.raises(ValueError, match=r"attacks need images in 0\.\.1"):
        fgsm(linear()[0], IMAGES * 4 - 2, LABELS, 0.1)


@pytest.mark.parametrize(
    ("radius", "message"),
    [(8.0, r"radius=8\.0: must be in 0\.\.1; try radius=1"), (-0.1, r"radius=-0\.1: .*try radius=0")],
)
def test_a_radius_outside_0_to_1_is_an_error(radius, message):
    with pytest.raises(ConfigError, match=message):
        fgsm(linear()[0], IMAGES, LABELS, radius)
    with pytest.raises(ConfigError, match=message):
        pgd(linear()[0], IMAGES, LABELS, radius, 1, 0.25, seeded())
