"""The base class of all croppings."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class Cropper(ABC):
    """Maps uint8 views and a seed to the batch of a method. The same views and seed give the same batch.

    Random parameters are sampled first and applied second, so that they can be inspected and replayed.

    Args:
        normalize: maps images in 0..1 to inputs of the backbone; None: leaves them in 0..1.
    """

    def __init__(self, normalize: Callable[[Tensor], Tensor] | None):
        self.normalize = normalize or torch.nn.Identity()

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> Any:
        generator = torch.Generator(views.device).manual_seed(seed)
        return self.apply(views, self.sample(len(views), (views.shape[-2], views.shape[-1]), generator))

    def apply(self, views: UInt8[Tensor, "b c h w"], params: Any) -> Any:
        """Return the batch that sampled parameters give."""
        with torch.autocast(views.device.type, enabled=False):  # coordinates need fp32
            return self.crop(views.float() / 255, params)

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> Any:
        """Sample everything random about b views of (height, width) pixels, on the generator's device."""
        return None

    @abstractmethod
    def crop(self, images: Float[Tensor, "b c h w"], params: Any) -> Any:
        """Return the batch of images in 0..1."""
