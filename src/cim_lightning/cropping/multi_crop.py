"""Two global and several local crops of each view, for methods that compare crops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.bounds import at_least
from cim_lightning.cropping.cropper import Cropper
from cim_lightning.cropping.random_crop import CropParams, RandomCrop
from cim_lightning.errors import ConfigError


class MultiCrops(NamedTuple):
    """Two global crops of each of b images, and k local crops, if there are any."""

    global_crops: Float[Tensor, "2 b c s s"]
    local_crops: Float[Tensor, "b k c t t"] | None


class MultiCropper(Cropper):
    """Crops two large and several small regions of each view, each kind with its own augmentation.

    Args:
        global_crop_1, global_crop_2: the two large crops, of the same size.
        local_crop: the small crops; None: none.
        num_local_crops: small crops per view (k); 0: none.
        normalize: see Cropper.

    Raises:
        ConfigError: the sizes do not fit, or there is no `local_crop` to take crops of.
    """

    def __init__(
        self,
        global_crop_1: RandomCrop,
        global_crop_2: RandomCrop,
        local_crop: RandomCrop | None,
        num_local_crops: int,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(normalize)
        size = global_crop_1.size
        if global_crop_2.size != size:
            raise ConfigError("size", global_crop_2.size, f"both global crops have size {size}", suggest=size)
        at_least("num_local_crops", num_local_crops, 0)
        self.kinds = [(global_crop_1, 1), (global_crop_2, 1)]
        if num_local_crops:
            if local_crop is None:
                raise ConfigError("num_local_crops", num_local_crops, "needs a local_crop", suggest=0)
            if local_crop.size > size:
                rule = f"must be at most {size}, the size of the global crops"
                raise ConfigError("size", local_crop.size, rule, suggest=size)
            self.kinds.append((local_crop, num_local_crops))

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> list[CropParams]:
        return [kind.sample(b, k, view, generator) for kind, k in self.kinds]

    def crop(self, images: Float[Tensor, "b c h w"], params: list[CropParams]) -> Any:
        crops = [kind.crop(images, drawn) for (kind, _), drawn in zip(self.kinds, params, strict=True)]
        crops = [self.normalize(c.flatten(0, 1)).unflatten(0, c.shape[:2]) for c in crops]
        global_crops = torch.stack((crops[0][:, 0], crops[1][:, 0]))
        return MultiCrops(global_crops, crops[2] if len(crops) > 2 else None)
