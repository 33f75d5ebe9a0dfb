"""Weather: four of the common corruptions (see catalog.py).

Textures are drawn at the reference size and then resized, so a flake covers the same share of any image.
"""

import math

import torch
import torch.nn.functional as F

from cim_lightning.evaluation.corruptions import image_ops as ops

# Mean and deviation of the noise; its zoom, threshold, blur length and sigma; weight of the image. Published,
# except for the threshold of severity 3. With the published 0.9, severity 3 would not be farther from the
# clean image than severity 2.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.85, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of image and frost
# Needles of one direction: length in pixels, and share of pixels in which one starts.
NEEDLES = ((56, 1 / 600), (44, 1 / 500), (32, 1 / 350), (20, 1 / 220), (12, 1 / 120))
ICE_TINT = (0.82, 0.92, 1.0)
# Strength of the clouds, decay of finer octaves. Published, except for the strengths of severities 4 and 5.
# With the published 2.5 and 3, both would be nearer to the clean image than severity 3, because rougher
# clouds vary less after normalization to 0..1.
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (3.2, 1.5), (4, 1.4))
COARSEST_CELL = 128  # pixels of a cell of the plasma's first octave; each octave halves them
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV


def snow(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Falling flakes in front of a whitened scene."""
    size = (len(images), 1, *ops.texture_size(images))
    noise = torch.randn(size, generator=generator, device=generator.device)
    angle = math.pi * (ops.uniform((len(images),), generator) / 2 - 0.75)  # down, plus or minus 45 degrees
    mean, deviation, zoom, threshold, length, sigma, weight = SNOW[severity - 1]
    noise = ops.resample(mean + deviation * noise, zoom)
    flakes = noise.masked_fill(noise < threshold, 0).clamp(0, 1)
    flakes = ops.line_blur(flakes, angle, length, sigma)
    flakes = ops.resize_like(flakes + flakes.rot90(2, dims=(2, 3)), images)
    gray = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]
    white = torch.maximum(images, 1.5 * gray + 0.5)
    return (weight * images + (1 - weight) * white + flakes).clamp(0, 1)


def frost(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Ice on the lens: patches of needles in random directions.

    The published corruption pastes parts of six photographs, which this project may not redistribute.
    """
    size = ops.texture_size(images)
    draws = ops.uniform((len(images), len(NEEDLES), *size), generator)
    angles = math.tau * ops.uniform((len(images), len(NEEDLES)), generator)
    clouds = plasma(len(images), size, 1.6, generator)
    needles = torch.zeros(len(images), 1, *size, device=generator.device)
    for i, (length, share) in enumerate(NEEDLES):
        blurred = ops.line_blur((draws[:, i : i + 1] < share).float(), angles[:, i], length, length / 2)
        needles = torch.maximum(needles, 0.8 * length * blurred)
    patches = ((clouds - 0.47) / 0.12).clamp(0, 1)
    ice = patches * (0.3 + 0.7 * needles.clamp(0, 1))
    ice = ops.resize_like(ice * torch.tensor(ICE_TINT, device=generator.device)[:, None, None], images)
    image_weight, ice_weight = FROST[severity - 1]
    return (image_weight * images + ice_weight * ice).clamp(0, 1)


def fog(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Clouds in front of the scene; the maximum of each image is preserved."""
    strength, decay = FOG[severity - 1]
    clouds = ops.resize_like(plasma(len(images), ops.texture_size(images), decay, generator), images)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return ((images + strength * clouds) * brightest / (brightest + strength)).clamp(0, 1)


def brightness(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Raise the value in HSV; hue and saturation are preserved."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + BRIGHTNESS[severity - 1]).clamp(max=1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-6), brighter).clamp(0, 1)


def plasma(count: int, size: tuple[int, int], decay: float, generator: torch.Generator) -> ops.Images:
    """Plasma fractal with one channel: octaves of noise, each finer octave weaker by `decay`."""
    h, w = size
    clouds = torch.zeros(count, 1, h, w, device=generator.device)
    for octave in range(int(math.log2(COARSEST_CELL)) + 1):
        cell = COARSEST_CELL >> octave
        noise = 2 * ops.uniform((count, 1, math.ceil(h / cell) + 1, math.ceil(w / cell) + 1), generator) - 1
        finer = F.interpolate(noise, scale_factor=float(cell), mode="bilinear", align_corners=False)
        clouds += finer[..., :h, :w] / decay**octave
    low, high = clouds.amin(dim=(2, 3), keepdim=True), clouds.amax(dim=(2, 3), keepdim=True)
    return (clouds - low) / (high - low)
