"""ImageBatch views at the size that a backbone reads, with nothing hidden and nothing cut."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from cim_lightning.errors import ConfigError


class ImageBatch(NamedTuple):
    """What a method reads that wants images and nothing else."""

    images: Float[Tensor, "b c s s"]


class ResizeCropper:
    """Resizes views and normalizes them.

    Args:
        size: side of the images in pixels (s).
        normalize: maps images of 0..1 to what the backbone reads; None leaves them.
    """

    def __init__(self, size: int, normalize: Callable[[Tensor], Tensor] | None = None):
        if size < 1:
            raise ConfigError(f"cropping.size={size}: must be at least 1; try 1")
        self.size, self.normalize = size, normalize or (lambda images: images)

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> ImageBatch:
        """Images of uint8 views; there is nothing random about them."""
        with torch.autocast(views.device.type, enabled=False):
            return ImageBatch(self.normalize(resized(views.float() / 255, self.size)))


def resized(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c s s"]:
    """Images of 0..1 at side x side pixels, bicubic and antialiased; untouched where they have that size."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
