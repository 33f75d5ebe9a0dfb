"""Several random crops of each view, colored independently: what methods that compare crops read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cim_lightning.cropping.appearance import Appearance
from cim_lightning.cropping.boxes import BoxSampler
from cim_lightning.cropping.exemplars import NEUTRAL, CropParams, crop_and_resize
from cim_lightning.errors import ConfigError


class MultiCrops(NamedTuple):
    """Two large crops of each of b images, and k small ones."""

    first: Float[Tensor, "b c s s"]
    second: Float[Tensor, "b c s s"]
    small: Float[Tensor, "b k c t t"] | None


class RandomCrops:
    """One kind of crops: upright, resized to one size, mirrored and colored at random.

    Args:
        count: crops a view (k).
        size: side of the crops in pixels.
        scale, ratio: see BoxSampler.
        flip: probability that a crop is mirrored left to right.
        appearance: what happens to the crops' colors; None leaves them.
    """

    def __init__(
        self,
        count: int,
        size: int,
        scale: Sequence[float],
        ratio: Sequence[float],
        flip: float,
        appearance: Appearance | None = None,
    ):
        for name, value in {"count": count, "size": size}.items():
            if value < 1:
                raise ConfigError(f"{name}={value}: must be at least 1; try 1")
        if not 0 <= flip <= 1:
            raise ConfigError(f"flip={flip}: a probability is in 0..1; try {min(max(flip, 0), 1)}")
        self.count, self.size, self.flip = count, size, flip
        self.appearance = appearance or NEUTRAL
        self.boxes = BoxSampler(scale, ratio, rotation=0)

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> CropParams:
        """Draws the crops of b views of (height, width) pixels, on the generator's device."""
        boxes = self.boxes.sample(b, self.count, view, generator)
        flipped = torch.rand(b, self.count, generator=generator, device=generator.device) < self.flip
        return CropParams(boxes, flipped, self.appearance.sample(b * self.count, generator))

    def apply(self, images: Float[Tensor, "b c h w"], plan: CropParams) -> Float[Tensor, "b k c e e"]:
        """Cuts what the plan says out of images of 0..1."""
        crops = crop_and_resize(images, plan.boxes, plan.flipped, self.size)
        return self.appearance.apply(crops.flatten(0, 1), plan.colors).unflatten(0, crops.shape[:2])


class MultiCropper:
    """Cuts two large crops of each view, of which each may have colors of its own, and k small ones.

    Args:
        first, second: the large crops, one a view each and of one size.
        small: the small crops; None cuts none.
        normalize: maps images of 0..1 to what the backbone reads; None leaves them.
    """

    def __init__(
        self,
        first: RandomCrops,
        second: RandomCrops,
        small: RandomCrops | None = None,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        for name, large in {"first": first, "second": second}.items():
            if large.count != 1:
                raise ConfigError(f"cropping.{name}.count={large.count}: there is one of it; try 1")
        if second.size != first.size:
            raise ConfigError(
                f"cropping.second.size={second.size}: both large crops have one size; try {first.size}"
            )
        if small is not None and small.size > first.size:
            raise ConfigError(
                f"cropping.small.size={small.size}: at most that of the large crops; try {first.size}"
            )
        self.kinds = [first, second] if small is None else [first, second, small]
        self.normalize = normalize or (lambda images: images)

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> MultiCrops:
        """Crops of uint8 views; the same views and seed give the same crops."""
        generator = torch.Generator(views.device).manual_seed(seed)
        return self.apply(views, self.sample(len(views), (views.shape[-2], views.shape[-1]), generator))

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> list[CropParams]:
        """Draws all crops of b views of (height, width) pixels: a plan a kind."""
        return [kind.sample(b, view, generator) for kind in self.kinds]

    def apply(self, views: UInt8[Tensor, "b c h w"], plans: list[CropParams]) -> MultiCrops:
        """Cuts what the plans say; geometry runs in fp32 whatever the autocast."""
        with torch.autocast(views.device.type, enabled=False):
            images = views.float() / 255
            cuts = [kind.apply(images, plan) for kind, plan in zip(self.kinds, plans, strict=True)]
            seen = [self.normalize(crops.flatten(0, 1)).unflatten(0, crops.shape[:2]) for crops in cuts]
        return MultiCrops(seen[0][:, 0], seen[1][:, 0], seen[2] if len(seen) > 2 else None)
