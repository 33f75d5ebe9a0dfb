"""Adversarial images: the worst that a bounded change of every pixel can do to a classifier.

Images are of 0..1, before normalization: a radius of 8 / 255 means eight gray levels whatever the data set.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.errors import ConfigError

Classifier = Callable[[Tensor], Tensor]  # images of 0..1, "b c h w" -> logits, "b classes"

SLACK = 1e-6  # rounding of fp32 near 1


def fgsm(
    classifier: Classifier, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"], radius: float
) -> Float[Tensor, "b c h w"]:
    """One step of `radius` along the sign of the loss's gradient, cut to 0..1.

    Source: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015,
    section 4.
    Raises ConfigError where `radius` is not in 0..1, ValueError where images are not.
    """
    _check(images, radius)
    step = radius * _gradient(classifier, images, labels).sign()
    return _inside((images + step).clamp(0, 1), images, radius)


def pgd(
    classifier: Classifier,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, " b"],
    radius: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Float[Tensor, "b c h w"]:
    """`steps` steps along the sign of the gradient from a random start, each brought back into the ball.

    Args:
        radius: of the ball, in the maximum norm, 0..1.
        steps: 1 or more.
        step_size: length of a step as a share of the radius, above 0.
        generator: draws the start, uniform in the ball, before anything else happens.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    section 2.1.
    Raises ConfigError where a setting is outside its limits, ValueError where images are not of 0..1.
    """
    if steps < 1:
        raise ConfigError(f"evaluation.robustness.pgd_steps={steps}: at least 1; try 1")
    if step_size <= 0:
        raise ConfigError(
            f"evaluation.robustness.pgd_step_size={step_size}: a share of the radius, above 0; try 0.25"
        )
    start = torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
    _check(images, radius)
    low, high = (images - radius).clamp(min=0), (images + radius).clamp(max=1)
    attacked = (images + radius * (2 * start - 1)).clamp(low, high)
    for _ in range(steps):
        step = step_size * radius * _gradient(classifier, attacked, labels).sign()
        attacked = (attacked + step).clamp(low, high)
    return _inside(attacked, images, radius)


def _gradient(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Of each image's cross-entropy with respect to its own pixels; parameters collect nothing."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(classifier(leaf).float(), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]


def _check(images: Tensor, radius: float) -> None:
    if not 0 <= radius <= 1:
        nearest = min(max(radius, 0), 1)
        raise ConfigError(f"radius={radius}: pixels are of 0..1, so it is in 0..1; try {nearest}")
    if images.amin() < 0 or images.amax() > 1:
        raise ValueError(f"images lie in {images.amin():.3g}..{images.amax():.3g}; attacks want 0..1")


def _inside(attacked: Tensor, images: Tensor, radius: float) -> Tensor:
    """The attacked images, held against what every attack promises."""
    farthest = (attacked - images).abs().amax()
    if not (farthest <= radius + SLACK and attacked.amin() >= 0 and attacked.amax() <= 1):
        raise RuntimeError(f"an attack of radius {radius} left its ball or 0..1: {farthest:.6f}")
    return attacked.detach()
