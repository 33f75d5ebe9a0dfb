"""Resized views without further crops, for methods that need only images."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.cropper import Cropper


class ImageBatch(NamedTuple):
    """Images in 0..1."""

    images: Float[Tensor, "b c s s"]

    @property
    def num_images(self) -> int:
        return len(self.images)


@dataclass
class ResizeCropper(Cropper):
    """Resizes views, without randomness."""

    size: int = 224  # side of the images in pixels (s)

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)

    def crop(self, images: Float[Tensor, "b c h w"], params: Any) -> ImageBatch:
        return ImageBatch(resize(images, self.size))


def resize(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Resize images in 0..1 to size x size pixels, bicubic and antialiased."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp_(0, 1)
