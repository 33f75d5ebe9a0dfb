"""Exemplars, context and correlation maps out of a batch of views, on the device that holds the views."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cim_lightning.cropping.appearance import Appearance, ColorParams
from cim_lightning.cropping.boxes import Boxes, BoxSampler
from cim_lightning.cropping.resize import resized
from cim_lightning.errors import ConfigError

# Between these many view pixels an exemplar pixel, sampling widens from one point to the pixel's whole
# footprint: wider than needed blurs, narrower aliases (tests hold it against Pillow's antialiased bicubic).
FOOTPRINT_FROM, FOOTPRINT_FULL = 1.0, 1.5
SAMPLE_REACH = 1.75  # view pixels that one bilinear sample covers without aliasing


class Crops(NamedTuple):
    """What correlational modeling sees of b views."""

    context: Float[Tensor, "b c s s"]
    exemplars: Float[Tensor, "b k c e e"]
    maps: Bool[Tensor, "b k s s"]  # true where the exemplar was cut
    boxes: Boxes


@dataclass(frozen=True)
class CropParams:
    """Everything random about the crops of a batch: draw it once, replay it as often as you like."""

    boxes: Boxes
    flipped: Bool[Tensor, "b k"]
    colors: ColorParams


class ExemplarCropper:
    """Cuts k exemplars out of each view in one pass (paper, section 3.1).

    Args:
        num_exemplars: exemplars a view (k), 1 or more.
        scale, ratio, rotation: see BoxSampler.
        context_size: side of the context and of the correlation maps in pixels (s).
        exemplar_size: side of the exemplars in pixels (e).
        flip: probability that an exemplar is mirrored left to right.
        appearance: what happens to the exemplars' colors; None leaves them.
        normalize: maps images of 0..1 to what the backbone reads; None leaves them.

    Raises:
        ConfigError: a setting is outside its limits, or, once views are seen, an exemplar exceeds them.
    """

    def __init__(
        self,
        num_exemplars: int,
        scale: list[float],
        ratio: list[float],
        rotation: float,
        context_size: int,
        exemplar_size: int,
        flip: float,
        appearance: Appearance | None = None,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        for name, value in {
            "num_exemplars": num_exemplars,
            "context_size": context_size,
            "exemplar_size": exemplar_size,
        }.items():
            if value < 1:
                raise ConfigError(f"cropping.{name}={value}: must be at least 1; try 1")
        if not 0 <= flip <= 1:
            raise ConfigError(f"cropping.flip={flip}: a probability is in 0..1; try {min(max(flip, 0), 1)}")
        self.num_exemplars, self.context_size, self.exemplar_size = num_exemplars, context_size, exemplar_size
        self.boxes = BoxSampler(scale, ratio, rotation)
        self.flip, self.appearance = flip, appearance
        self.normalize = normalize or (lambda images: images)

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> Crops:
        """Crops of uint8 views; the same views and seed give the same crops."""
        generator = torch.Generator(views.device).manual_seed(seed)
        return self.apply(views, self.sample(len(views), (views.shape[-2], views.shape[-1]), generator))

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> CropParams:
        """Draws the crops of b views of (height, width) pixels, on the generator's device."""
        if self.exemplar_size > min(view):
            raise ConfigError(
                f"cropping.exemplar_size={self.exemplar_size}: an exemplar is no larger than the view of "
                f"{view[0]}x{view[1]} it is cut from; try {min(view)}"
            )
        boxes = self.boxes.sample(b, self.num_exemplars, view, generator)
        flipped = torch.rand(boxes.angle.shape, generator=generator, device=generator.device) < self.flip
        colors = (self.appearance or NEUTRAL).sample(flipped.numel(), generator)
        return CropParams(boxes, flipped, colors)

    def apply(self, views: UInt8[Tensor, "b c h w"], plan: CropParams) -> Crops:
        """Cuts what the plan says; geometry runs in fp32 whatever the autocast, which would round it."""
        with torch.autocast(views.device.type, enabled=False):
            images = views.float() / 255
            exemplars = crop_and_resize(images, plan.boxes, plan.flipped, self.exemplar_size)
            if self.appearance is not None:
                flat = self.appearance.apply(exemplars.flatten(0, 1), plan.colors)
                exemplars = flat.unflatten(0, exemplars.shape[:2])
            context = resized(images, self.context_size)
            return Crops(
                context=self.normalize(context),
                exemplars=self.normalize(exemplars.flatten(0, 1)).unflatten(0, exemplars.shape[:2]),
                maps=plan.boxes.cover(self.context_size, self.context_size),
                boxes=plan.boxes,
            )


NEUTRAL = Appearance(0, 0, 0, 0, jitter_prob=0, grayscale=0, blur=0, blur_sigma=(1, 1), solarize=0)


def crop_and_resize(
    images: Float[Tensor, "b c h w"], boxes: Boxes, flipped: Bool[Tensor, "b k"], side: int
) -> Float[Tensor, "b k c e e"]:
    """Resamples every box to side x side pixels, antialiased, in one grid_sample without copying images.

    Each exemplar pixel averages samples x samples bilinear samples spread over its footprint in the view.
    """
    k = boxes.angle.shape[1]
    height, width = images.shape[-2:]
    samples = max(1, math.ceil(max(height, width) / side / SAMPLE_REACH))
    pixels = torch.arange(side, device=images.device) + 0.5
    offsets = (torch.arange(samples, device=images.device) + 0.5) / samples - 0.5
    footprint = (boxes.size / side - FOOTPRINT_FROM) / (FOOTPRINT_FULL - FOOTPRINT_FROM)
    spread = offsets * footprint.clamp(0, 1)[..., None]  # b k 2 samples
    places = (pixels[:, None] + spread[..., None, :]).flatten(-2) / side - 0.5  # b k 2 (side samples)
    mirror = torch.where(flipped, -1.0, 1.0)[..., None]
    x, y = (places * boxes.size[..., None]).unbind(dim=2)
    x = x * mirror
    cos, sin = boxes.angle.cos()[..., None, None], boxes.angle.sin()[..., None, None]
    center = boxes.center[..., None, None]
    x, y = x[:, :, None, :], y[:, :, :, None]
    grid_x = (center[:, :, 0] + cos * x - sin * y) * (2 / width) - 1
    grid_y = (center[:, :, 1] + sin * x + cos * y) * (2 / height) - 1
    grid = torch.stack((grid_x, grid_y), dim=-1).flatten(1, 2)  # an image's exemplars, stacked along height
    cuts = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if samples > 1:
        cuts = F.avg_pool2d(cuts, samples)
    return cuts.unflatten(2, (k, side)).transpose(1, 2)
