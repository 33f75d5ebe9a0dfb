"""Noise, each pixel and channel for itself: three of the common corruptions (see catalog.py)."""

import torch
from jaxtyping import Float
from torch import Tensor

SIGMAS = (0.08, 0.12, 0.18, 0.26, 0.38)  # of pixels of 0..1
PHOTONS = (60, 25, 12, 5, 3)  # that a white pixel counts
SHARES = (0.03, 0.06, 0.09, 0.17, 0.27)  # of values that are lost


def gaussian_noise(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Normal noise, as of a sensor in low light."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return (images + SIGMAS[severity - 1] * noise).clamp(0, 1)


def shot_noise(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Poisson noise of counted photons."""
    photons = PHOTONS[severity - 1]
    counts = torch.poisson((images * photons).to(generator.device), generator=generator)
    return (counts.to(images) / photons).clamp(0, 1)


def impulse_noise(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Salt and pepper: values replaced by 0 or 1, half of them each."""
    chance = torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
    share = SHARES[severity - 1]
    return images.masked_fill(chance < share / 2, 0).masked_fill(chance >= 1 - share / 2, 1)
