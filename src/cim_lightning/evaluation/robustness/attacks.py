"""Adversarial attacks in the maximum norm.

Images are in 0..1, before normalization, so a radius of 8 / 255 means eight gray levels for any data set.
"""

import torch
from torch import Generator, Tensor

from cim_lightning.checks import check_within
from cim_lightning.evaluation.context import Classifier
from cim_lightning.evaluation.corruptions.image_ops import Images
from cim_lightning.evaluation.features import Labels


def fgsm(
    classifier: Classifier, images: Images, labels: Labels, radius: float, generator: Generator | None = None
) -> Images:
    """Fast gradient sign method: one step of `radius` (0..1) along the sign of the gradient, clamped to 0..1.

    The generator is unused. It is an argument because `accuracies` passes one to every perturbation.

    Source: Goodfellow, Shlens, Szegedy, ICLR 2015, section 4.
    """
    return pgd(classifier, images, labels, radius, steps=1, step_size=1.0, generator=None)


def pgd(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    radius: float,
    steps: int,
    step_size: float,
    generator: Generator | None,
) -> Images:
    """Projected gradient descent: `steps` sign steps, each projected back into the ball and into 0..1.

    Args:
        radius: of the ball, 0..1.
        step_size: length of a step as a share of the radius.
        generator: draws the start, uniform in the ball; None: start at the images.

    Source: Madry et al., ICLR 2018, section 2.1.
    """
    check_within("radius", radius, 0, 1)
    if images.amin() < 0 or images.amax() > 1:
        raise ValueError(f"attacks need images in 0..1, not in {images.amin():.3g}..{images.amax():.3g}")
    low, high = (images - radius).clamp(min=0), (images + radius).clamp(max=1)
    attacked = images
    if generator is not None:
        draws = torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
        attacked = (images + radius * (2 * draws - 1)).clamp(low, high)
    for _ in range(steps):
        step = step_size * radius * _gradient(classifier, attacked, labels).sign()
        attacked = (attacked + step).clamp(low, high)
    return attacked


def _gradient(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(classifier(leaf).float(), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]  # without gradients of the parameters
