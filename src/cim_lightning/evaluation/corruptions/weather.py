"""Weather: four of the common corruptions (see catalog.py)."""

import math

import torch

from cim_lightning.evaluation.corruptions.image_ops import Images, resize_like, texture_size, uniform
from cim_lightning.evaluation.corruptions.textures import frost_texture, plasma, snow_texture

# Mean and deviation of the noise; its zoom, threshold, blur length and sigma; weight of the image. Published,
# except for the threshold of severity 3 (0.9 there), with which severity 3 would be no farther from the clean
# image than severity 2.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.85, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of image and frost
# Strength of the clouds, decay of finer octaves. Published, except for the strengths of severities 4 and 5
# (2.5 and 3 there), with which both would be nearer to the clean image than severity 3: rougher clouds vary
# less once they are normalized to 0..1.
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (3.2, 1.5), (4, 1.4))
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def snow(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Falling flakes in front of a whitened scene."""
    size = (len(images), 1, *texture_size(images))
    noise = torch.randn(size, generator=generator, device=generator.device)
    draws = uniform((len(images),), generator)
    mean, deviation, zoom, threshold, length, sigma, weight = SNOW[severity - 1]
    angle = math.pi * (draws / 2 - 0.75)  # within 45 degrees of straight down
    flakes = snow_texture(mean + deviation * noise, zoom, threshold, length, sigma, angle)
    flakes = resize_like(flakes + flakes.rot90(2, dims=(2, 3)), images)
    gray = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]
    white = torch.maximum(images, 1.5 * gray + 0.5)
    return (weight * images + (1 - weight) * white + flakes).clamp(0, 1)


def frost(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Ice on the lens; procedural, see textures.frost_texture."""
    ice = resize_like(frost_texture(len(images), texture_size(images), generator), images)
    image_weight, ice_weight = FROST[severity - 1]
    return (image_weight * images + ice_weight * ice).clamp(0, 1)


def fog(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Clouds in front of the scene; the brightest value of an image stays."""
    strength, decay = FOG[severity - 1]
    clouds = resize_like(plasma(len(images), texture_size(images), decay, generator), images)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return ((images + strength * clouds) * brightest / (brightest + strength)).clamp(0, 1)


def brightness(images: Images, severity: int, generator: torch.Generator) -> Images:
    """Higher value in HSV; hue and saturation stay."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + BRIGHTNESS[severity - 1]).clamp(max=1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-6), brighter).clamp(0, 1)
