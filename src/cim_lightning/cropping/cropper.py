"""The Cropping protocol, and the base class of the croppings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.cropping.batch import CropBatch
from cim_lightning.cropping.views import Views, to_unit_range
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom, image_seeds


@runtime_checkable
class Cropping(Protocol):
    """Maps views to the batch of a method, with images in 0..1, on the device of the views.

    The crops of an image are a function of its view and its seed. One integer gives a seed to each image.
    """

    def __call__(self, views: Views, seeds: Int64[Tensor, " b"] | int) -> CropBatch: ...


@dataclass
class Cropper(ABC):
    """Base class of the croppings.

    Random parameters are sampled first and applied second, so that they can be inspected and replayed.
    """

    crops_pairs: ClassVar[bool] = False  # accepts views "b 2 c h w" of pairs of frames
    dynamic_shapes: ClassVar[bool] = False  # True: the shapes of tensors change between batches

    def __call__(self, views: Views, seeds: Int64[Tensor, " b"] | int) -> Any:
        if views.ndim == 5 and not self.crops_pairs:
            name, hint = type(self).__name__, "try data.max_gap=0"
            raise ConfigError("cropping", name, "crops single images, not pairs of frames", hint=hint)
        if isinstance(seeds, int):
            seeds = image_seeds(seeds, len(views), views.device)
        batch_size, compiled = getattr(self, "_compiled", (None, self._sample_and_apply))
        is_compiled = len(views) == batch_size and views.device.type != "cpu"
        return (compiled if is_compiled else self._sample_and_apply)(views, seeds.to(views.device))

    def compile(self, batch_size: int, **options: Any) -> None:
        """Compile sampling and cropping for batches of this size on a GPU.

        Batches of other sizes are not compiled: they are few, and compiling takes longer than cropping them.
        Nor are batches on a CPU, where a compiled graph is slower, and those whose shapes always change.

        Args:
            options: of torch.compile.
        """
        if not self.dynamic_shapes:
            self._compiled = (batch_size, torch.compile(self._sample_and_apply, dynamic=False, **options))

    def _sample_and_apply(self, views: Views, seeds: Int64[Tensor, " b"]) -> Any:
        return self.apply(views, self.sample((views.shape[-2], views.shape[-1]), ImageRandom(seeds)))

    def apply(self, views: Views, params: Any) -> Any:
        """Return the batch of views for sampled parameters."""
        with torch.autocast(views.device.type, enabled=False):  # coordinates need fp32
            return self.crop(to_unit_range(views), params)

    def sample(self, view: tuple[int, int], random: ImageRandom) -> Any:
        """Sample the random parameters of views of (height, width) pixels."""
        return None

    @abstractmethod
    def crop(self, images: Float[Tensor, "b *f c h w"], params: Any) -> CropBatch:
        """Return the batch of images in 0..1 for sampled parameters."""
