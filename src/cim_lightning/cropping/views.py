"""Views of images, as the workers return them: their types, conversion to floats, and preview."""

import torch
from jaxtyping import Float, Float32, Shaped, UInt8, UInt16
from torch import Tensor

# One view per image, or "b 2 c h w" of pairs of frames: integers of 8 or 16 bits, or floats in 0..1.
Views = UInt8[Tensor, "b *f c h w"] | UInt16[Tensor, "b *f c h w"] | Float32[Tensor, "b *f c h w"]


def to_unit_range(views: Shaped[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """Return views as fp32 in 0..1."""
    return views.float() if views.is_floating_point() else views.float().div_(torch.iinfo(views.dtype).max)


def rgb_preview(images: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n 3 h w"]:
    """Return images in 0..1 for a picture: the first three channels, or the first one as gray."""
    shown = images[..., :3, :, :] if images.shape[-3] >= 3 else images[..., [0, 0, 0], :, :]
    return shown.clamp(0, 1)
