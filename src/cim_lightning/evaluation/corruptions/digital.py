"""What processing does to images: four of the common corruptions (see catalog.py)."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cim_lightning.evaluation.corruptions.blur import REFERENCE, gaussian, scale, warp
from cim_lightning.evaluation.corruptions.textures import canvas, fitted

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # factor about the mean
# Size of the jumps before and sigma of their blur, largest jump of the corners; as shares of the shorter
# side. Severities 3 to 5 are published. The published 1 and 2 move corners by 0.1 and 0.2, so that they would
# be farther from the clean image than 3 to 5; these two go on downwards from 3 instead.
ELASTIC = (
    (0.02, 0.01, 0.01),
    (0.035, 0.01, 0.015),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)
PIXELS = (0.6, 0.5, 0.4, 0.3, 0.25)  # size of the small image
QUALITY = (25, 18, 15, 10, 7)  # of JPEG


def contrast(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Contrast lost, about each channel's mean."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + CONTRAST[severity - 1] * (images - mean)).clamp(0, 1)


def elastic_transform(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Small regions stretched and shifted, after a random affine map (Simard et al., ICDAR 2003)."""
    field = torch.rand((len(images), 2, *canvas(images)), generator=generator, device=generator.device)
    corners = torch.rand((len(images), 3, 2), generator=generator, device=generator.device).to(images)
    alpha, sigma, shift = (share * REFERENCE for share in ELASTIC[severity - 1])
    jumps = fitted(alpha * gaussian(2 * field - 1, sigma), images).movedim(1, -1)
    return warp(images, scale(images) * (jumps + shift * _affine(2 * corners - 1, images))).clamp(0, 1)


def pixelate(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Made small by averaging, and large again by repeating."""
    h, w = images.shape[-2:]
    share = PIXELS[severity - 1]
    rows, columns = (_boxes(side, max(int(side * share), 1)).to(images) for side in (h, w))
    return F.interpolate(rows @ images @ columns.T, (h, w), mode="nearest-exact").clamp(0, 1)


def jpeg_compression(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Through a JPEG file of low quality; by Pillow, on the CPU."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(array, QUALITY[severity - 1]) for array in pixels])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images) / 255


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def _boxes(side: int, cells: int) -> Float[Tensor, "cells side"]:
    """Each cell's mean over the pixels, whole and parts, that lie in it."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * side / cells
    pixels = torch.arange(side, dtype=torch.float64)
    inside = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (inside.clamp(min=0) * cells / side).float()


def _affine(corners: Float[Tensor, "b 3 2"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w 2"]:
    """Jumps, affine in the position, that are `corners` at three points a third of a side off the center."""
    h, w = images.shape[-2:]
    third = min(h, w) / 3
    at = images.new_tensor([[third, third, 1], [third, -third, 1], [-third, -third, 1]])
    map_ = torch.linalg.solve(at.cpu(), corners.cpu()).to(images)  # three rows: x, y, 1
    y = torch.arange(h, device=images.device) - (h - 1) / 2
    x = torch.arange(w, device=images.device) - (w - 1) / 2
    jumps = y[:, None, None] * map_[:, None, None, 1] + x[None, :, None] * map_[:, None, None, 0]
    return jumps + map_[:, None, None, 2]
