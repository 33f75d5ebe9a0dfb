"""Two global and several local crops of each view, for methods that compare crops."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_at_least
from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.cropper import Cropper
from cim_lightning.cropping.random_crop import CropParams, RandomCrop
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom

_GLOBAL = {"size": 224, "scale": (0.25, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5}
FIRST = RandomCrop(**_GLOBAL, appearance=Appearance(blur=1.0, solarize=0.0))
SECOND = RandomCrop(**_GLOBAL, appearance=Appearance(blur=0.1))
LOCAL = RandomCrop(96, (0.05, 0.25), (3 / 4, 4 / 3), flip=0.5, appearance=Appearance(solarize=0.0))


class MultiCrops(NamedTuple):
    """Two global crops of each of b images, and k local crops unless num_local_crops is 0; in 0..1."""

    global_crops: Float[Tensor, "2 b c s s"]
    local_crops: Float[Tensor, "b k c t t"] | None

    @property
    def num_images(self) -> int:
        return self.global_crops.shape[1]


@dataclass
class MultiCropper(Cropper):
    """Crops two large and k small regions of each view, each kind with its own augmentation.

    The defaults are those of DINO for ViT-S/16.
    """

    global_crop_1: RandomCrop = FIRST
    global_crop_2: RandomCrop = SECOND  # of the same size
    local_crop: RandomCrop | None = LOCAL  # None: no local crops
    num_local_crops: int = 10  # per view (k); 0: none

    def __post_init__(self) -> None:
        size = self.global_crop_1.size
        if self.global_crop_2.size != size:
            rule = f"both global crops have size {size}"
            raise ConfigError("size", self.global_crop_2.size, rule, suggest=size)
        check_at_least("num_local_crops", self.num_local_crops, 0)
        self.kinds = [(self.global_crop_1, 1), (self.global_crop_2, 1)]
        if self.num_local_crops:
            if self.local_crop is None:
                raise ConfigError("num_local_crops", self.num_local_crops, "needs a local_crop", suggest=0)
            if self.local_crop.size > size:
                rule = f"must be at most {size}, the size of the global crops"
                raise ConfigError("size", self.local_crop.size, rule, suggest=size)
            self.kinds.append((self.local_crop, self.num_local_crops))

    def sample(self, view: tuple[int, int], random: ImageRandom) -> list[CropParams]:
        return [kind.sample(k, view, random) for kind, k in self.kinds]

    def crop(self, images: Float[Tensor, "b c h w"], params: list[CropParams]) -> MultiCrops:
        pairs = zip(self.kinds, params, strict=True)
        first, second, *local = [kind.crop(images, drawn) for (kind, _), drawn in pairs]
        return MultiCrops(torch.stack((first[:, 0], second[:, 0])), local[0] if local else None)
