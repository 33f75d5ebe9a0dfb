"""Random weather textures, drawn at the reference size and then resized to the image.

A flake thus covers the same share of an image of any size, and all severities use the same random numbers.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.evaluation.corruptions.image_ops import center_zoom, line_blur, uniform

COARSEST_CELL = 128  # pixels of a cell of the plasma's first octave; each octave halves them
# Frost needles of one direction: length in pixels, and share of pixels in which one starts.
NEEDLES = ((56, 1 / 600), (44, 1 / 500), (32, 1 / 350), (20, 1 / 220), (12, 1 / 120))
ICE_TINT = (0.82, 0.92, 1.0)


def plasma(
    count: int, size: tuple[int, int], decay: float, generator: torch.Generator
) -> Float[Tensor, "b 1 h w"]:
    """Plasma fractal in 0..1: octaves of noise, each finer octave weaker by `decay`."""
    h, w = size
    clouds = torch.zeros(count, 1, h, w, device=generator.device)
    for octave in range(int(math.log2(COARSEST_CELL)) + 1):
        cell = COARSEST_CELL >> octave
        noise = 2 * uniform((count, 1, math.ceil(h / cell) + 1, math.ceil(w / cell) + 1), generator) - 1
        finer = F.interpolate(noise, scale_factor=float(cell), mode="bilinear", align_corners=False)
        clouds += finer[..., :h, :w] / decay**octave
    low, high = clouds.amin(dim=(2, 3), keepdim=True), clouds.amax(dim=(2, 3), keepdim=True)
    return (clouds - low) / (high - low)


def frost_texture(count: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Frost in 0..1: patches of needles in random directions, on nearly black glass.

    It is procedural: the published corruption pastes parts of six photographs, which we may not ship.
    """
    draws = uniform((count, len(NEEDLES), *size), generator)
    angles = math.tau * uniform((count, len(NEEDLES)), generator)
    clouds = plasma(count, size, 1.6, generator)
    ice = torch.zeros(count, 1, *size, device=generator.device)
    for i, (length, share) in enumerate(NEEDLES):
        needles = line_blur((draws[:, i : i + 1] < share).float(), angles[:, i], length, length / 2)
        ice = torch.maximum(ice, 0.8 * length * needles)
    patches = ((clouds - 0.47) / 0.12).clamp(0, 1)
    grain = 0.3 + 0.7 * ice.clamp(0, 1)
    return patches * grain * torch.tensor(ICE_TINT, device=generator.device)[:, None, None]


def snow_texture(
    noise: Float[Tensor, "b 1 h w"], zoom: float, threshold: float, length: float, sigma: float, angle: Tensor
) -> Float[Tensor, "b 1 h w"]:
    """Snow in 0..1: the part of the enlarged noise above a threshold, blurred along `angle` (radians)."""
    large = center_zoom(noise, zoom)
    return line_blur(large.masked_fill(large < threshold, 0).clamp(0, 1), angle, length, sigma)
