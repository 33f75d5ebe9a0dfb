"""Base class of the croppings."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(kw_only=True)
class Cropper(ABC):
    """Maps uint8 views and a seed to the batch of a method. The same views and seed give the same batch.

    Random parameters are sampled first and applied second, so that they can be inspected and replayed.
    """

    normalize: Callable[[Tensor], Tensor] | None = None  # from 0..1 to the input of the backbone; None: none

    def __post_init__(self) -> None:
        self.normalize = self.normalize or torch.nn.Identity()

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> Any:
        generator = torch.Generator(views.device).manual_seed(seed)
        return self.apply(views, self.sample(len(views), (views.shape[-2], views.shape[-1]), generator))

    def apply(self, views: UInt8[Tensor, "b c h w"], params: Any) -> Any:
        """Return the batch of uint8 views for sampled parameters."""
        with torch.autocast(views.device.type, enabled=False):  # coordinates need fp32
            return self.crop(views.float() / 255, params)

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> Any:
        """Sample the random parameters for b views of (height, width) pixels, on the generator's device."""
        return None

    @abstractmethod
    def crop(self, images: Float[Tensor, "b c h w"], params: Any) -> Any:
        """Return the batch of images in 0..1 for sampled parameters."""

    def normalized(self, images: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Normalize images in 0..1, with any number of leading dimensions."""
        normalize: Any = self.normalize
        return normalize(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
