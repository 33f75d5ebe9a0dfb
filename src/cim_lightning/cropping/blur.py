"""Gaussian blur with one standard deviation per image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gaussian_blur(
    images: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], radius: int
) -> Float[Tensor, "n c h w"]:
    """Blur images with reflected borders, along rows and then along columns.

    kornia's function gives the same values, but reads the standard deviations back to the host to check them.

    Args:
        sigma: standard deviation of each image in pixels, above 0.
        radius: pixels on either side that are averaged; below height and width.
    """
    if images[:, :, 0, 0].numel() == 1:  # torch convolves a single channel in another way, to other last bits
        return gaussian_blur(images.expand(2, -1, -1, -1), sigma.expand(2), radius)[:1]
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.exp(-(distance**2) / (2 * sigma[:, None] ** 2))
    weights = weights / weights.sum(dim=1, keepdim=True)
    per_channel = weights[:, None].expand(-1, images.shape[1], -1)
    kernels = per_channel.flatten(0, 1)[:, None, None]
    for padding, kernel in (((radius, radius, 0, 0), kernels), ((0, 0, radius, radius), kernels.mT)):
        channels = F.pad(images, padding, "reflect").flatten(0, 1)[None]  # all images as channels of one
        images = F.conv2d(channels, kernel, groups=channels.shape[1])[0].unflatten(0, images.shape[:2])
    return images
