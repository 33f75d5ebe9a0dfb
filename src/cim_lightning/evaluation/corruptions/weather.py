"""Weather: four of the common corruptions (see catalog.py)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.evaluation.corruptions.textures import canvas, fitted, flakes, frost, plasma

# Mean and deviation of the noise, its zoom, threshold, length and sigma of the fall, weight of the image. As
# published, but for the threshold of severity 3 (0.9), with which it would be no farther from the clean
# image than 2.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.85, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of image and frost
# Strength, how fast finer clouds fade. As published, but for the strengths of 4 and 5 (2.5 and 3), with which
# they are nearer to the clean image than 3: rougher clouds, once brought to 0..1, are more alike.
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (3.2, 1.5), (4, 1.4))
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def snow(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Falling flakes in front of a scene that turns white."""
    noise = torch.randn((len(images), 1, *canvas(images)), generator=generator, device=generator.device)
    turn = torch.rand(len(images), generator=generator, device=generator.device)
    mean, deviation, zoom, threshold, length, sigma, weight = SNOW[severity - 1]
    angle = math.pi * (turn / 2 - 0.75)  # within 45 degrees of straight down
    fall = flakes(mean + deviation * noise, zoom, threshold, length, sigma, angle)
    layer = fitted(fall + fall.rot90(2, dims=(2, 3)), images)
    gray = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]
    white = torch.maximum(images, 1.5 * gray + 0.5)
    return (weight * images + (1 - weight) * white + layer).clamp(0, 1)


def frosted(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Ice on the lens; procedural, see textures.frost."""
    ice = fitted(frost(len(images), canvas(images), generator), images)
    image, added = FROST[severity - 1]
    return (image * images + added * ice).clamp(0, 1)


def fog(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Clouds in front of the scene; the image keeps its brightest value."""
    strength, decay = FOG[severity - 1]
    clouds = fitted(plasma(len(images), canvas(images), decay, generator), images)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return ((images + strength * clouds) * brightest / (brightest + strength)).clamp(0, 1)


def brightness(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Daylight: the value of HSV is raised, hue and saturation stay."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + BRIGHTNESS[severity - 1]).clamp(max=1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-6), brighter).clamp(0, 1)
