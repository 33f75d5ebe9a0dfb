"""Resized views, for methods that need images and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.bounds import at_least
from cim_lightning.cropping.cropper import Cropper


class ImageBatch(NamedTuple):
    """Normalized images."""

    images: Float[Tensor, "b c s s"]


class ResizeCropper(Cropper):
    """Resizes and normalizes views, without randomness.

    Args:
        size: side of the images in pixels (s).
        normalize: see Cropper.
    """

    def __init__(self, size: int, normalize: Callable[[Tensor], Tensor] | None = None):
        super().__init__(normalize)
        at_least("size", size, 1)
        self.size = size

    def crop(self, images: Float[Tensor, "b c h w"], params: Any) -> Any:
        return ImageBatch(self.normalize(resize(images, self.size)))


def resize(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Resize images in 0..1 to size x size pixels, bicubic and antialiased."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
