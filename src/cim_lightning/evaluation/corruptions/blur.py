"""Blurs: four of the common corruptions (see catalog.py), and what they are made of.

Lengths are pixels of an image whose shorter side is 224 and are scaled to the image. Since that makes them
fractions of a pixel in small images, kernels are drawn from points that fall between pixels, and are shared
out to the four pixels around them.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.filters import gaussian_blur2d
from torch import Tensor

REFERENCE = 224  # shorter side, in pixels, for which the lengths were published

DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disk, sigma that softens it
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, largest jump, rounds
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # length, sigma
ZOOM = ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))  # farthest, step
MOST_ROUNDS = 3
DISK = 61  # points across a disk


def defocus_blur(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """A lens out of focus: every point becomes a disk."""
    radius, soft = (length * scale(images) for length in DEFOCUS[severity - 1])
    across = torch.linspace(-radius, radius, DISK, device=images.device)
    points = torch.cartesian_prod(across, across)
    points = points[points.norm(dim=1) <= radius]
    kernel = splat(points[None], torch.ones_like(points[:, 0]))
    return gaussian(convolve(images, kernel), soft).clamp(0, 1)


def glass_blur(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Frosted glass: pixels change places with near ones, between two soft blurs.

    As published, pixels are swapped one after another, by whole pixels; here all of them look elsewhere at
    once and by any distance, which runs on the device and means the same in an image of any size.
    """
    jumps = torch.rand(
        (MOST_ROUNDS, len(images), *images.shape[2:], 2), generator=generator, device=generator.device
    )
    sigma, farthest, rounds = GLASS[severity - 1]
    reach = farthest * scale(images)
    images = gaussian(images, sigma * scale(images))
    for jump in jumps[:rounds].to(images):
        images = warp(images, reach * (2 * jump - 1))
    return gaussian(images, sigma * scale(images)).clamp(0, 1)


def motion_blur(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """A camera that moved, within 45 degrees of the horizontal."""
    turn = torch.rand(len(images), generator=generator, device=generator.device).to(images)
    length, sigma = (value * scale(images) for value in MOTION[severity - 1])
    return streak(images, (2 * turn - 1) * math.pi / 4, length, sigma).clamp(0, 1)


def zoom_blur(
    images: Float[Tensor, "b 3 h w"], severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """A camera that drew near: the mean of the image enlarged ever more."""
    farthest, step = ZOOM[severity - 1]
    count = round((farthest - 1) / step * max(scale(images), 1)) + 1  # finer steps in large images
    total = images.clone()
    for factor in torch.linspace(1, farthest, count).tolist():
        total += enlarge(images, factor)
    return (total / (count + 1)).clamp(0, 1)


def scale(images: Float[Tensor, "b c h w"]) -> float:
    """Pixels of these images that one pixel of the reference makes."""
    return min(images.shape[-2:]) / REFERENCE


def gaussian(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Blur by a normal of `sigma` pixels."""
    size = 2 * max(math.ceil(4 * sigma), 1) + 1
    return gaussian_blur2d(images, (size, size), (sigma, sigma))


def streak(
    images: Float[Tensor, "b c h w"], angle: Float[Tensor, " b"], length: float, sigma: float
) -> Float[Tensor, "b c h w"]:
    """Blur to one side along a line, by half a normal of `sigma` pixels cut off at `length`.

    Angles are in radians, anticlockwise from the right. kornia's motion_blur has a uniform or linear
    profile, of a whole and odd number of pixels.
    """
    along = torch.linspace(0, length, 2 * math.ceil(length) + 21, device=images.device)
    points = torch.stack((angle.cos(), -angle.sin()), dim=-1)[:, None] * along[None, :, None]
    return convolve(images, splat(points, torch.exp(-((along / sigma) ** 2) / 2)))


def splat(points: Float[Tensor, "b n 2"], weights: Float[Tensor, " n"]) -> Float[Tensor, "b k k"]:
    """Kernels, odd in size, of weighted points (x, y) in pixels from the center; each sums to 1."""
    reach = math.ceil(float(points.abs().amax()))
    cells = torch.arange(-reach, reach + 1, device=points.device)
    hats = (1 - (points[..., None] - cells).abs()).clamp(min=0)  # "b n 2 k"
    return torch.einsum("n,bni,bnj->bij", weights / weights.sum(), hats[:, :, 1], hats[:, :, 0])


def convolve(images: Float[Tensor, "b c h w"], kernels: Float[Tensor, "n k k"]) -> Float[Tensor, "b c h w"]:
    """Each image with its own kernel (n = b) or all with one (n = 1); borders are reflected.

    By Fourier transforms, since kernels are up to a fifth of the image in size.
    """
    reach = kernels.shape[-1] // 2
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    size = padded.shape[-2:]
    spectra = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, s=size)[:, None]
    whole = torch.fft.irfft2(spectra, s=size)
    return whole[..., 2 * reach :, 2 * reach :]


def warp(images: Float[Tensor, "b c h w"], jumps: Float[Tensor, "b h w 2"]) -> Float[Tensor, "b c h w"]:
    """Every pixel colors elsewhere, by (x, y) pixels; borders are reflected."""
    h, w = images.shape[-2:]
    grid = F.affine_grid(torch.eye(2, 3, device=images.device)[None], [1, 1, h, w], align_corners=False)
    shares = jumps * 2 / jumps.new_tensor((w, h))
    return F.grid_sample(images, grid + shares, padding_mode="reflection", align_corners=False)


def enlarge(images: Float[Tensor, "b c h w"], factor: float) -> Float[Tensor, "b c h w"]:
    """Enlarged about the center and cut to the same size."""
    zoom = torch.eye(2, 3, device=images.device)[None] / factor
    grid = F.affine_grid(zoom, [1, 1, *images.shape[-2:]], align_corners=False)
    return F.grid_sample(
        images, grid.expand(len(images), -1, -1, -1), padding_mode="reflection", align_corners=False
    )
