"""Blurs: four of the common corruptions (see catalog.py). Lengths are pixels of the reference size."""

import math

import torch

from cim_lightning.evaluation.corruptions import image_ops as ops

DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # disk radius, sigma that softens the disk
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, largest offset, rounds
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # length, sigma
ZOOM = ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))  # largest factor, step
MAX_ROUNDS = 3
DISK_POINTS = 61  # across a disk


def defocus_blur(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Out-of-focus lens: every point becomes a disk."""
    radius, sigma = (length * ops.length_scale(images) for length in DEFOCUS[severity - 1])
    across = torch.linspace(-radius, radius, DISK_POINTS, device=images.device)
    points = torch.cartesian_prod(across, across)
    points = points[points.norm(dim=1) <= radius]
    kernel = ops.kernels_from_points(points[None], torch.ones_like(points[:, 0]))
    return ops.gaussian(ops.convolve(images, kernel), sigma).clamp(0, 1)


def glass_blur(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Frosted glass: pixels move by random offsets, between two light Gaussian blurs.

    The published code swaps whole pixels, one after another. Here all pixels are resampled in parallel with
    fractional offsets, which runs on the device and scales with the image.
    """
    draws = ops.uniform((MAX_ROUNDS, len(images), *images.shape[2:], 2), generator)
    sigma, max_offset, rounds = GLASS[severity - 1]
    max_offset = max_offset * ops.length_scale(images)
    images = ops.gaussian(images, sigma * ops.length_scale(images))
    for draw in draws[:rounds].to(images):
        images = ops.resample(images, offsets=max_offset * (2 * draw - 1))
    return ops.gaussian(images, sigma * ops.length_scale(images)).clamp(0, 1)


def motion_blur(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Moving camera, within 45 degrees of the horizontal."""
    draws = ops.uniform((len(images),), generator).to(images)
    length, sigma = (value * ops.length_scale(images) for value in MOTION[severity - 1])
    return ops.line_blur(images, (2 * draws - 1) * math.pi / 4, length, sigma).clamp(0, 1)


def zoom_blur(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Approaching camera: the mean of the image under growing zoom factors."""
    largest, step = ZOOM[severity - 1]
    count = round((largest - 1) / step * max(ops.length_scale(images), 1)) + 1  # finer steps in large images
    total = images.clone()
    for factor in torch.linspace(1, largest, count).tolist():
        total += ops.resample(images, factor)
    return (total / (count + 1)).clamp(0, 1)
