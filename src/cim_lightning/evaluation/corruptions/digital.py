"""Digital processing: four of the common corruptions (see catalog.py)."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cim_lightning.evaluation.corruptions import image_ops as ops

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # factor about the mean
# Size of the offsets before blurring, sigma of the blur, largest offset of the corners; as shares of the
# shorter side. Severities 3 to 5 are published. The published severities 1 and 2 move corners by 0.1 and 0.2,
# more than 3 to 5, so smaller values replace them.
ELASTIC = (
    (0.02, 0.01, 0.01),
    (0.035, 0.01, 0.015),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # relative size of the small image
JPEG_QUALITY = (25, 18, 15, 10, 7)


def contrast(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Lower contrast, about the mean of each channel."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + CONTRAST[severity - 1] * (images - mean)).clamp(0, 1)


def elastic_transform(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Random affine map, then smooth random offsets (Simard et al., ICDAR 2003)."""
    draws = ops.uniform((len(images), 2, *ops.texture_size(images)), generator)
    corners = ops.uniform((len(images), 3, 2), generator).to(images)
    alpha, sigma, shift = (share * ops.REFERENCE_SIDE for share in ELASTIC[severity - 1])
    offsets = ops.resize_like(alpha * ops.gaussian(2 * draws - 1, sigma), images).movedim(1, -1)
    offsets = ops.length_scale(images) * (offsets + shift * _affine_offsets(2 * corners - 1, images))
    return ops.resample(images, offsets=offsets).clamp(0, 1)


def pixelate(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """Downsample by averaging, upsample by repeating."""
    h, w = images.shape[-2:]
    share = PIXELATE[severity - 1]
    rows, columns = (_box_filter(side, max(int(side * share), 1)).to(images) for side in (h, w))
    return F.interpolate(rows @ images @ columns.T, (h, w), mode="nearest-exact").clamp(0, 1)


def jpeg_compression(images: ops.Images, severity: int, generator: torch.Generator) -> ops.Images:
    """JPEG of low quality; by Pillow, on the CPU."""
    encoded = []
    for pixels in (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY[severity - 1])
        encoded.append(file)
    decoded = np.stack([np.asarray(Image.open(file)) for file in encoded])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images) / 255


def _box_filter(side: int, cells: int) -> Float[Tensor, "cells side"]:
    """Matrix that maps pixels to the mean of each cell; a pixel on an edge counts partly in both cells."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * side / cells
    pixels = torch.arange(side, dtype=torch.float64)
    inside = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (inside.clamp(min=0) * cells / side).float()


def _affine_offsets(corners: Float[Tensor, "b 3 2"], images: ops.Images) -> Float[Tensor, "b h w 2"]:
    """Offsets affine in the position, equal to `corners` at three points a third of a side off the center."""
    h, w = images.shape[-2:]
    third = min(h, w) / 3
    points = images.new_tensor([[third, third, 1], [third, -third, 1], [-third, -third, 1]])
    matrix = torch.linalg.solve(points.cpu(), corners.cpu()).to(images)  # three rows: x, y, 1
    y = torch.arange(h, device=images.device) - (h - 1) / 2
    x = torch.arange(w, device=images.device) - (w - 1) / 2
    offsets = y[:, None, None] * matrix[:, None, None, 1] + x[None, :, None] * matrix[:, None, None, 0]
    return offsets + matrix[:, None, None, 2]
