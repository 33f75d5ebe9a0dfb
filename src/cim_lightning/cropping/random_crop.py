"""Random crops: rotated boxes, resized, flipped and recolored, without a loop over images."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.cropping.appearance import NEUTRAL, Appearance, ColorParams
from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.image_random import ImageRandom

# A crop pixel is the mean of several bilinear samples. All are at its center up to NO_SPREAD view pixels per
# crop pixel, and spread over its whole footprint from FULL_SPREAD on. More spread would blur, less would
# alias; the tests compare with Pillow's antialiased bicubic.
NO_SPREAD, FULL_SPREAD = 1.0, 1.5
SAMPLE_REACH = 1.75  # view pixels that one bilinear sample covers without aliasing


@dataclass(frozen=True)
class CropParams:
    """Sampled parameters of k crops of each of b views."""

    boxes: Boxes
    flipped: Bool[Tensor, "b k"]
    colors: ColorParams


@dataclass(frozen=True)
class RandomCrop:
    """Samples and applies random crops. For scale, ratio and rotation, see BoxSampler."""

    size: int  # side of the crops in pixels
    scale: Sequence[float]
    ratio: Sequence[float]
    flip: float  # probability of a horizontal flip
    appearance: Appearance | None = None  # color augmentation; None: none
    rotation: float = 0

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_share("flip", self.flip)
        BoxSampler(self.scale, self.ratio, self.rotation)  # raises an error early

    @functools.cached_property
    def colors(self) -> Appearance:
        return self.appearance or NEUTRAL

    @functools.cached_property
    def boxes(self) -> BoxSampler:
        return BoxSampler(self.scale, self.ratio, self.rotation)

    def sample(self, k: int, view: tuple[int, int], random: ImageRandom) -> CropParams:
        """Sample k crops of the view of each image, of (height, width) pixels."""
        boxes = self.boxes.sample(k, view, random)
        return CropParams(boxes, random.bernoulli(self.flip, k), self.colors.sample(k, random))

    def crop(self, images: Float[Tensor, "b c h w"], params: CropParams) -> Float[Tensor, "b k c e e"]:
        """Return the crops of images in 0..1."""
        crops = crop_and_resize(images, params.boxes, params.flipped, self.size)
        return self.colors.apply(crops.flatten(0, 1), params.colors).unflatten(0, crops.shape[:2])


def crop_and_resize(
    images: Float[Tensor, "b c h w"], boxes: Boxes, flipped: Bool[Tensor, "b k"], size: int
) -> Float[Tensor, "b k c e e"]:
    """Resample every box to size x size pixels, antialiased, with one grid_sample and no copy of an image."""
    k = boxes.angle.shape[1]
    height, width = images.shape[-2:]
    samples = max(1, math.ceil(max(height, width) / size / SAMPLE_REACH))
    pixels = torch.arange(size, device=images.device) + 0.5
    offsets = (torch.arange(samples, device=images.device) + 0.5) / samples - 0.5
    spread = (boxes.size / size - NO_SPREAD) / (FULL_SPREAD - NO_SPREAD)  # 0..1 after clamp
    offsets = offsets * spread.clamp(0, 1)[..., None]  # b k 2 samples
    positions = (pixels[:, None] + offsets[..., None, :]).flatten(-2) / size - 0.5  # b k 2 (size samples)
    x, y = (positions * boxes.size[..., None]).unbind(dim=2)
    x = x * torch.where(flipped, -1.0, 1.0)[..., None]
    cos, sin = boxes.angle.cos()[..., None, None], boxes.angle.sin()[..., None, None]
    center = boxes.center[..., None, None]
    x, y = x[:, :, None, :], y[:, :, :, None]
    grid_x = (center[:, :, 0] + cos * x - sin * y) * (2 / width) - 1
    grid_y = (center[:, :, 1] + sin * x + cos * y) * (2 / height) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1).flatten(1, 2)  # the k crops of an image in one column
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if samples > 1:
        crops = F.avg_pool2d(crops, samples)
    return crops.unflatten(2, (k, size)).transpose(1, 2)
