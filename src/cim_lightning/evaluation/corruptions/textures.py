"""Random textures of the weather, drawn at the size for which lengths were published and then resized.

So a flake covers the same share of an image whatever its size, and the random numbers of all severities are
the same.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.evaluation.corruptions.blur import REFERENCE, enlarge, streak

COARSEST = 128  # pixels of a cell of the plasma's first octave; each next one halves them
# Of frost: length in pixels of the needles of one direction, and share of pixels in which one starts.
NEEDLES = ((56, 1 / 600), (44, 1 / 500), (32, 1 / 350), (20, 1 / 220), (12, 1 / 120))
TINT = (0.82, 0.92, 1.0)  # of ice


def canvas(images: Float[Tensor, "b c h w"]) -> tuple[int, int]:
    """Height and width of textures for these images: their shape, the shorter side as published."""
    h, w = images.shape[-2:]
    return round(REFERENCE * h / min(h, w)), round(REFERENCE * w / min(h, w))


def fitted(texture: Float[Tensor, "b c y x"], images: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c h w"]:
    """The texture in the images' size and on their device."""
    size = (images.shape[-2], images.shape[-1])
    return F.interpolate(texture.to(images), size, mode="bilinear", antialias=True, align_corners=False)


def plasma(
    count: int, size: tuple[int, int], decay: float, generator: torch.Generator
) -> Float[Tensor, "b 1 h w"]:
    """Clouds of 0..1: octaves of noise, each finer one weaker by `decay`."""
    h, w = size
    clouds = torch.zeros(count, 1, h, w, device=generator.device)
    for octave in range(int(math.log2(COARSEST)) + 1):
        cell = COARSEST >> octave
        grid = (count, 1, math.ceil(h / cell) + 1, math.ceil(w / cell) + 1)
        noise = 2 * torch.rand(grid, generator=generator, device=generator.device) - 1
        finer = F.interpolate(noise, scale_factor=float(cell), mode="bilinear", align_corners=False)
        clouds += finer[..., :h, :w] / decay**octave
    low, high = clouds.amin(dim=(2, 3), keepdim=True), clouds.amax(dim=(2, 3), keepdim=True)
    return (clouds - low) / (high - low)


def frost(count: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Frost of 0..1: patches of needles that grow in random directions, on nearly black glass.

    Procedural: the published corruption pastes parts of six photographs, which are not ours to ship.
    """
    chance = torch.rand((count, len(NEEDLES), *size), generator=generator, device=generator.device)
    angles = math.tau * torch.rand((count, len(NEEDLES)), generator=generator, device=generator.device)
    patches = plasma(count, size, 1.6, generator)
    ice = torch.zeros(count, 1, *size, device=generator.device)
    for i, (length, share) in enumerate(NEEDLES):
        needles = streak((chance[:, i : i + 1] < share).float(), angles[:, i], length, length / 2)
        ice = torch.maximum(ice, 0.8 * length * needles)
    where = ((patches - 0.47) / 0.12).clamp(0, 1)
    grain = 0.3 + 0.7 * ice.clamp(0, 1)
    return where * grain * torch.tensor(TINT, device=generator.device)[:, None, None]


def flakes(
    noise: Float[Tensor, "b 1 h w"], zoom: float, threshold: float, length: float, sigma: float, angle: Tensor
) -> Float[Tensor, "b 1 h w"]:
    """Snow of 0..1: what of the enlarged noise exceeds the threshold, falling along `angle` (radians)."""
    large = enlarge(noise, zoom)
    return streak(large.masked_fill(large < threshold, 0).clamp(0, 1), angle, length, sigma)
