"""Views of images, as the workers return them, and their conversion to floats on the device."""

import torch
from jaxtyping import Float32, Shaped, UInt8, UInt16
from torch import Tensor

# One view per image, or "b 2 c h w" of pairs of frames: integers of 8 or 16 bits, or floats in 0..1.
Views = UInt8[Tensor, "b *f c h w"] | UInt16[Tensor, "b *f c h w"] | Float32[Tensor, "b *f c h w"]


def to_unit_range(views: Shaped[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """Return views as fp32 in 0..1."""
    return views.float() if views.is_floating_point() else views.float() / torch.iinfo(views.dtype).max
