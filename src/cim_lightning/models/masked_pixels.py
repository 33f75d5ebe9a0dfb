"""The pixels of masked patches, as MAE predicts them."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

EPSILON = 1e-6  # added to the variance of a patch, which can be 0


def patch_pixels(
    images: Float[Tensor, "b c s s"], patch_size: int, normalize: bool
) -> Float[Tensor, "b n pixels"]:
    """Return the pixels of patches in row-major order of the grid.

    Args:
        images: normalized as the backbone needs them.
        patch_size: side of a patch in pixels.
        normalize: subtract the mean of each patch, and divide by its standard deviation.
    """
    patches = F.pixel_unshuffle(images.float(), patch_size).flatten(2).transpose(1, 2)
    if not normalize:
        return patches
    deviation = (patches.var(dim=-1, keepdim=True) + EPSILON).sqrt()
    return (patches - patches.mean(dim=-1, keepdim=True)) / deviation


def masked_error(
    predicted: Float[Tensor, "b n pixels"], pixels: Float[Tensor, "b n pixels"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Return the mean squared error of the masked patches. The mask is True for masked patches."""
    error = (predicted.float() - pixels).square().mean(dim=-1)
    return (error * mask).sum() / mask.sum()
