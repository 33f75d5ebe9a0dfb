"""The Cropping protocol, and the base class of the croppings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.batch import CropBatch
from cim_lightning.cropping.views import Views, to_unit_range
from cim_lightning.errors import ConfigError


@runtime_checkable
class Cropping(Protocol):
    """Maps views and a seed to the batch of a method, with images in 0..1, on the device of the views.

    The same views and seed give the same batch.
    """

    def __call__(self, views: Views, seed: int) -> CropBatch: ...


@dataclass
class Cropper(ABC):
    """Base class of the croppings.

    Random parameters are sampled first and applied second, so that they can be inspected and replayed.
    """

    crops_pairs: ClassVar[bool] = False  # accepts views "b 2 c h w" of pairs of frames

    def __call__(self, views: Views, seed: int) -> Any:
        if views.ndim == 5 and not self.crops_pairs:
            name, hint = type(self).__name__, "try data.max_gap=0"
            raise ConfigError("cropping", name, "crops single images, not pairs of frames", hint=hint)
        generator = torch.Generator(views.device).manual_seed(seed)
        return self.apply(views, self.sample(len(views), (views.shape[-2], views.shape[-1]), generator))

    def apply(self, views: Views, params: Any) -> Any:
        """Return the batch of views for sampled parameters."""
        with torch.autocast(views.device.type, enabled=False):  # coordinates need fp32
            return self.crop(to_unit_range(views), params)

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> Any:
        """Sample the random parameters for b views of (height, width) pixels, on the generator's device."""
        return None

    @abstractmethod
    def crop(self, images: Float[Tensor, "b *f c h w"], params: Any) -> CropBatch:
        """Return the batch of images in 0..1 for sampled parameters."""
