"""Crops as commit 195ab0e made them, the baseline of bench_cropping.py, with the color matrix of today."""

import math

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from cim_lightning.cropping.appearance import Appearance, ColorParams, color_matrix
from cim_lightning.cropping.boxes import Boxes
from cim_lightning.cropping.exemplars import ExemplarCropper
from cim_lightning.cropping.random_crop import FULL_SPREAD, NO_SPREAD, SAMPLE_REACH, CropParams


def crop(cropper: ExemplarCropper, views: Tensor, params: CropParams) -> tuple[Tensor, Tensor, Tensor]:
    """Return contexts, exemplars and maps of views of 8 bits."""
    images, side = views.float() / 255, cropper.context_size
    context = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    exemplars = resample(images, params.boxes, params.flipped, cropper.exemplar_size)
    assert isinstance(cropper.appearance, Appearance)
    recolored = recolor(cropper.appearance, exemplars.flatten(0, 1), params.colors)
    return context, recolored.unflatten(0, exemplars.shape[:2]), rasterize(params.boxes, side)


def resample(images: Tensor, boxes: Boxes, flipped: Tensor, size: int) -> Tensor:
    """Resample boxes, with all samples of a crop as one larger crop, which is pooled."""
    k, (height, width) = boxes.angle.shape[1], images.shape[-2:]
    samples = max(1, math.ceil(max(height, width) / size / SAMPLE_REACH))
    pixels = torch.arange(size) + 0.5
    offsets = (torch.arange(samples) + 0.5) / samples - 0.5
    spread = (boxes.size / size - NO_SPREAD) / (FULL_SPREAD - NO_SPREAD)
    offsets = offsets * spread.clamp(0, 1)[..., None]
    positions = (pixels[:, None] + offsets[..., None, :]).flatten(-2) / size - 0.5
    x, y = (positions * boxes.size[..., None]).unbind(dim=2)
    x = x * torch.where(flipped, -1.0, 1.0)[..., None]
    cos, sin = boxes.angle.cos()[..., None, None], boxes.angle.sin()[..., None, None]
    center = boxes.center[..., None, None]
    x, y = x[:, :, None, :], y[:, :, :, None]
    grid_x = (center[:, :, 0] + cos * x - sin * y) * (2 / width) - 1
    grid_y = (center[:, :, 1] + sin * x + cos * y) * (2 / height) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1).flatten(1, 2)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(crops, samples).unflatten(2, (k, size)).transpose(1, 2)


def recolor(appearance: Appearance, exemplars: Tensor, colors: ColorParams) -> Tensor:
    """Recolor exemplars; the blur is kornia's."""
    matrix = color_matrix(exemplars.mean(dim=(-2, -1)), colors)
    flat = torch.baddbmm(matrix[..., 3:], matrix[..., :3], exemplars.flatten(2))
    exemplars = flat.clamp(0, 1).unflatten(-1, exemplars.shape[-2:])
    radius = min(math.ceil(3 * appearance.blur_sigma[1]), exemplars.shape[-1] - 1)
    sigma = colors.sigma[:, None].expand(-1, 2)
    exemplars = kornia.filters.gaussian_blur2d(exemplars, 2 * radius + 1, sigma, "reflect")
    bright = (exemplars >= 0.5) & colors.solarize[:, None, None, None]
    return torch.where(bright, 1 - exemplars, exemplars)


def rasterize(boxes: Boxes, side: int) -> Tensor:
    """Return correlation maps."""
    y = (torch.arange(side) + 0.5) * (boxes.view[0] / side) - boxes.center[..., 1, None]
    x = (torch.arange(side) + 0.5) * (boxes.view[1] / side) - boxes.center[..., 0, None]
    cos, sin = boxes.angle.cos()[..., None], boxes.angle.sin()[..., None]
    across = ((cos * x)[..., None, :] + (sin * y)[..., None]).abs() <= boxes.size[..., 0, None, None] / 2
    along = ((cos * y)[..., None] - (sin * x)[..., None, :]).abs() <= boxes.size[..., 1, None, None] / 2
    return across & along
