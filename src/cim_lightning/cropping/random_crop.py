"""Random crops: rotated boxes, resized, flipped and recolored, without a loop over images."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.cropping.appearance import NEUTRAL
from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.cropping.chunks import map_chunks
from cim_lightning.cropping.recoloring import Recoloring
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
    colors: Any  # parameters of the appearance


@dataclass(frozen=True)
class RandomCrop:
    """Samples and applies random crops. For scale, ratio and rotation, see BoxSampler."""

    size: int  # side of the crops in pixels
    scale: Sequence[float]
    ratio: Sequence[float]
    flip: float  # probability of a horizontal flip
    appearance: Recoloring | None = None  # color augmentation; None: none
    rotation: float = 0

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_share("flip", self.flip)
        BoxSampler(self.scale, self.ratio, self.rotation)  # raises an error early

    @functools.cached_property
    def colors(self) -> Recoloring:
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
) -> Float[Tensor, "b k c {size} {size}"]:
    """Resample every box to size x size pixels, antialiased, without a copy of an image."""
    samples = max(1, math.ceil(max(boxes.view) / size / SAMPLE_REACH))
    b, k = flipped.shape

    def crop(part: slice) -> Float[Tensor, "n k c e e"]:
        grid = _sampling_grid(boxes[part], flipped[part], size, samples)
        # All samples of the k crops of an image are in one column.
        values = F.grid_sample(
            images[part], grid.flatten(1, 3), mode="bilinear", padding_mode="border", align_corners=False
        )
        return values.unflatten(2, (samples**2, k, size)).mean(dim=2).transpose(1, 2)

    return map_chunks(crop, b, k * (size * samples) ** 2, images.device)


def _sampling_grid(
    boxes: Boxes, flipped: Bool[Tensor, "b k"], size: int, samples: int
) -> Float[Tensor, "b n k {size} {size} 2"]:
    """Return the n = samples ** 2 positions (x, y) of every crop pixel, -1..1 in the view."""
    height, width = boxes.view
    pixels = torch.arange(size, device=flipped.device) + 0.5
    offsets = (torch.arange(samples, device=flipped.device) + 0.5) / samples - 0.5
    spread = ((boxes.size / size - NO_SPREAD) / (FULL_SPREAD - NO_SPREAD)).clamp(0, 1)
    shifts = (offsets[:, None, None] * spread[:, None]).unbind(dim=3)  # of x and y: b samples k
    x, y = ((pixels + shift[..., None]) / size - 0.5 for shift in shifts)
    x = x * (boxes.size[..., 0] * torch.where(flipped, -1.0, 1.0))[:, None, :, None]
    y = y * boxes.size[:, None, :, 1, None]
    cos, sin = boxes.angle.cos()[:, None, :, None], boxes.angle.sin()[:, None, :, None]
    center_x, center_y = boxes.center[:, None, :, None].unbind(dim=-1)

    def add(columns: Tensor, rows: Tensor, length: int) -> Tensor:
        """Add a term per column and a term per row, which are view pixels, and scale them to -1..1."""
        position = columns[:, None, :, :, None, :] + rows[:, :, None, :, :, None]
        return position.mul_(2 / length).sub_(1).flatten(1, 2)

    grid_x, grid_y = add(center_x + cos * x, -sin * y, width), add(center_y + sin * x, cos * y, height)
    return torch.stack((grid_x, grid_y), dim=-1)
