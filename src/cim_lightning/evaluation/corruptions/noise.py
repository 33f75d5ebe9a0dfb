"""Noise, independent per pixel and channel: three of the common corruptions (see catalog.py)."""

import torch

from cim_lightning.evaluation.corruptions.image_ops import Images, uniform

SIGMAS = (0.08, 0.12, 0.18, 0.26, 0.38)
PHOTONS = (60, 25, 12, 5, 3)  # mean count of a white pixel
SHARES = (0.03, 0.06, 0.09, 0.17, 0.27)  # of the values that are replaced


def gaussian_noise(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Gaussian noise, as of a sensor in low light."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return (images + SIGMAS[severity - 1] * noise).clamp(0, 1)


def shot_noise(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Poisson noise of photon counts."""
    photons = PHOTONS[severity - 1]
    counts = torch.poisson((images * photons).to(generator.device), generator=generator)
    return (counts.to(images) / photons).clamp(0, 1)


def impulse_noise(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Salt and pepper: a share of the values becomes 0 or 1, half each."""
    draws = uniform(images.shape, generator).to(images.device)
    share = SHARES[severity - 1]
    return images.masked_fill(draws < share / 2, 0).masked_fill(draws >= 1 - share / 2, 1)
