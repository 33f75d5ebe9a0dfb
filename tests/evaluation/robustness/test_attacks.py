"""Attacks on a linear classifier have a closed form; on any other they keep their promises."""

import pytest
import torch
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.robustness.attacks import fgsm, pgd


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear() -> tuple[nn.Module, torch.Tensor]:
    """Two classes of images of 3 x 5 x 7; and (other class's weight - own class's) for each class."""
    layer = nn.Linear(3 * 5 * 7, 2)
    nn.init.normal_(layer.weight, generator=seeded(3))
    away = (layer.weight[[1, 0]] - layer.weight).detach().view(2, 3, 5, 7)
    return nn.Sequential(nn.Flatten(), layer), away


IMAGES = torch.rand(4, 3, 5, 7, generator=seeded(1))
LABELS = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("radius", [0, 1 / 255, 0.1, 0.7, 1])
def test_fgsm_on_a_linear_model_is_the_closed_form(radius):
    # The gradient of the cross-entropy is (1 - p) (w_other - w_own), of which p < 1 changes no sign.
    model, away = linear()
    expected = (IMAGES + radius * away[LABELS].sign()).clamp(0, 1)
    assert torch.equal(fgsm(model, IMAGES, LABELS, radius), expected)


def test_pgd_on_a_linear_model_reaches_the_same_corner_from_anywhere():
    model, away = linear()
    expected = (IMAGES + 0.1 * away[LABELS].sign()).clamp(0, 1)
    torch.testing.assert_close(pgd(model, IMAGES, LABELS, 0.1, 8, 0.25, seeded(5)), expected)


def test_pgd_starts_where_the_generator_says_and_steps_as_far_as_asked():
    model, away = linear()
    inner = 0.3 + 0.4 * IMAGES  # 0.1 away from both ends
    start = 0.1 * (2 * torch.rand(inner.shape, generator=seeded(5)) - 1)
    expected = inner + (start + 0.01 * away[LABELS].sign()).clamp(-0.1, 0.1)
    torch.testing.assert_close(pgd(model, inner, LABELS, 0.1, 1, 0.1, seeded(5)), expected)
    other = pgd(model, inner, LABELS, 0.1, 1, 0.1, seeded(6))
    assert (other - expected).abs().max() > 0.01


def crooked() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Flatten(), nn.Linear(8 * 3 * 5, 3)
    ).eval()


@pytest.mark.parametrize("radius", [1 / 255, 8 / 255, 0.3])
def test_attacked_images_stay_in_the_ball_and_hurt(radius):
    model = crooked()
    loss = nn.CrossEntropyLoss()
    single, many = fgsm(model, IMAGES, LABELS, radius), pgd(model, IMAGES, LABELS, radius, 20, 0.25, seeded())
    for attacked in (single, many):
        assert (attacked - IMAGES).abs().max() <= radius + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert loss(model(attacked), LABELS) > loss(model(IMAGES), LABELS)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not IMAGES.requires_grad


def test_an_attack_that_leaves_its_ball_is_an_error(monkeypatch):
    monkeypatch.setattr(
        "cim_lightning.evaluation.robustness.attacks._gradient", lambda *_: torch.full((1, 1, 1, 1), 1.0)
    )
    monkeypatch.setattr(torch.Tensor, "sign", lambda self: 2 * self)
    with pytest.raises(RuntimeError, match="left its ball"):
        fgsm(linear()[0], IMAGES, LABELS, 0.1)


def test_normalised_images_are_refused():
    with pytest.raises(ValueError, match=r"attacks want 0\.\.1"):
        fgsm(linear()[0], IMAGES * 4 - 2, LABELS, 0.1)


@pytest.mark.parametrize(
    ("radius", "steps", "step_size", "message"),
    [
        (8.0, 1, 0.25, r"radius=8\.0: .*try 1"),
        (-0.1, 1, 0.25, r"radius=-0\.1: .*try 0"),
        (0.1, 0, 0.25, "steps=0: .*try 1"),
        (0.1, 1, 0.0, r"step_size=0\.0: .*try 0\.25"),
    ],
)
def test_settings_out_of_bounds(radius, steps, step_size, message):
    with pytest.raises(ConfigError, match=message):
        pgd(linear()[0], IMAGES, LABELS, radius, steps, step_size, seeded())
