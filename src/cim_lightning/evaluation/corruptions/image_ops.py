"""Image operations that several corruptions share.

Published lengths are pixels of an image with a shorter side of 224; corruptions scale them to the image. They
can be fractions of a pixel in small images, so kernels are built from points between pixels. The weight of a
point is distributed bilinearly over the four pixels around it.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.filters import gaussian_blur2d
from torch import Tensor

REFERENCE_SIDE = 224  # shorter side, in pixels, for which the lengths were published

Images = Float[Tensor, "b c h w"]  # 0..1


def uniform(size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform numbers in 0..1, on the generator's device."""
    return torch.rand(size, generator=generator, device=generator.device)


def length_scale(images: Images) -> float:
    """Pixels of these images per pixel of the reference size."""
    return min(images.shape[-2:]) / REFERENCE_SIDE


def texture_size(images: Images) -> tuple[int, int]:
    """Height and width of a texture for these images: their aspect ratio, the shorter side REFERENCE_SIDE."""
    h, w = images.shape[-2:]
    return round(REFERENCE_SIDE * h / min(h, w)), round(REFERENCE_SIDE * w / min(h, w))


def resize_like(texture: Float[Tensor, "b d y x"], images: Images) -> Float[Tensor, "b d h w"]:
    """Resize a texture to the size of the images, on their device."""
    return F.interpolate(texture.to(images), images.shape[-2:], mode="bilinear", antialias=True)


def gaussian(images: Images, sigma: float) -> Images:
    """Gaussian blur; sigma in pixels."""
    size = 2 * max(math.ceil(4 * sigma), 1) + 1
    return gaussian_blur2d(images, (size, size), (sigma, sigma))


def line_blur(images: Images, angle: Float[Tensor, " b"], length: float, sigma: float) -> Images:
    """One-sided motion blur along a line, with half a Gaussian of `sigma` pixels cut off at `length` pixels.

    kornia's motion_blur has a uniform or linear profile and an odd number of pixels.

    Args:
        angle: radians, counterclockwise from the right.
    """
    along = torch.linspace(0, length, 2 * math.ceil(length) + 21, device=images.device)
    points = torch.stack((angle.cos(), -angle.sin()), dim=-1)[:, None] * along[None, :, None]
    return convolve(images, kernels_from_points(points, torch.exp(-((along / sigma) ** 2) / 2)))


def kernels_from_points(
    points: Float[Tensor, "b n 2"], weights: Float[Tensor, " n"]
) -> Float[Tensor, "b k k"]:
    """Kernels of odd size from weighted points (x, y), in pixels from the center. Each kernel sums to 1."""
    radius = math.ceil(float(points.abs().amax()))
    cells = torch.arange(-radius, radius + 1, device=points.device)
    hats = (1 - (points[..., None] - cells).abs()).clamp(min=0)  # "b n 2 k"
    return torch.einsum("n,bni,bnj->bij", weights / weights.sum(), hats[:, :, 1], hats[:, :, 0])


def convolve(images: Images, kernels: Float[Tensor, "n k k"]) -> Images:
    """Convolve each image with its own kernel (n = b), or all with one (n = 1); reflect at the borders.

    It uses Fourier transforms, since kernels are up to a fifth of the image in size.
    """
    radius = kernels.shape[-1] // 2
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    size = padded.shape[-2:]
    spectra = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, s=size)[:, None]
    return torch.fft.irfft2(spectra, s=size)[..., 2 * radius :, 2 * radius :]


def resample(images: Images, zoom: float = 1.0, offsets: Float[Tensor, "b h w 2"] | float = 0.0) -> Images:
    """Enlarge about the center and shift each pixel's source by (x, y) pixels; reflect at the borders."""
    h, w = images.shape[-2:]
    theta = torch.eye(2, 3, device=images.device)[None] / zoom
    grid = F.affine_grid(theta, [1, 1, h, w], align_corners=False) + offsets * 2 / images.new_tensor((w, h))
    grid = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
