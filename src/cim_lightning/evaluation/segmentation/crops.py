"""Random scale, crop and flip of images together with their masks, on the device."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cim_lightning.errors import ConfigError

SETTING = "evaluation.segmentation.crops"


class MaskCrop(NamedTuple):
    """What is cut out of an image, in its pixels, and what it becomes."""

    top: int
    left: int
    height: int
    width: int
    out_height: int  # up to the crop's size; what is missing is filled up
    out_width: int
    mirrored: bool


class RandomScaleCrop:
    """Draws and applies crops.

    Args:
        size: side of a crop in pixels.
        short_side: what the short side of an image is brought to at scale 1; null: the image stays as it is.
        scale: smallest and largest factor of that.
        flip: probability of mirroring left to right.

    Raises:
        ConfigError: a setting is outside its limits.
    """

    def __init__(self, size: int, short_side: int | None, scale: Sequence[float], flip: float):
        for name, value in (("size", size), ("short_side", 1 if short_side is None else short_side)):
            if value < 1:
                raise ConfigError(f"{SETTING}.{name}={value}: at least 1 pixel; try 1")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ConfigError(f"{SETTING}.scale={list(scale)}: 0 < low <= high; try [0.5, 2.0]")
        if not 0 <= flip <= 1:
            raise ConfigError(f"{SETTING}.flip={flip}: a probability, 0..1; try {min(max(flip, 0), 1)}")
        self.size, self.short_side, self.scale, self.flip = size, short_side, scale, flip

    def sample(self, height: int, width: int, generator: torch.Generator) -> MaskCrop:
        """Draws the crop of an image of that size, with a generator on the CPU."""
        draw, down, right, mirror = torch.rand(4, generator=generator).tolist()
        factor = self.scale[0] + draw * (self.scale[1] - self.scale[0])
        factor *= (self.short_side or min(height, width)) / min(height, width)
        side = max(round(self.size / factor), 1)
        h, w = min(side, height), min(side, width)
        return MaskCrop(
            top=round(down * (height - h)),
            left=round(right * (width - w)),
            height=h,
            width=w,
            out_height=self.size if h == side else min(max(round(h * factor), 1), self.size),
            out_width=self.size if w == side else min(max(round(w * factor), 1), self.size),
            mirrored=mirror < self.flip,
        )

    def apply(
        self,
        image: UInt8[Tensor, "c h w"],
        mask: UInt8[Tensor, "h w"],
        crop: MaskCrop,
        normalize: Callable[[Tensor], Tensor],
        ignored: int,
    ) -> tuple[Float[Tensor, "c s s"], Int64[Tensor, "s s"]]:
        """The crop, normalized, and its mask; beyond the image zeros and `ignored`.

        Images are resized bilinearly and antialiased, masks by the nearest pixel.
        """
        rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
        out = [crop.out_height, crop.out_width]
        pixels = V.resize(
            image[:, rows, columns].float() / 255, out, V.InterpolationMode.BILINEAR, antialias=True
        )
        labels = V.resize(mask[None, rows, columns], out, V.InterpolationMode.NEAREST_EXACT)
        if crop.mirrored:
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        fill = [0, 0, self.size - crop.out_width, self.size - crop.out_height]
        pixels = V.pad(normalize(pixels[None])[0], fill, fill=0.0)
        return pixels, V.pad(labels, fill, fill=float(ignored))[0].long()

    def batch(
        self,
        pairs: Sequence[tuple[Tensor, Tensor]],
        device: torch.device,
        normalize: Callable[[Tensor], Tensor],
        ignored: int,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "b c s s"], Int64[Tensor, "b s s"]]:
        """A crop of each of some images and masks."""
        crops = [
            self.sample(mask.shape[0], mask.shape[1], generator) for _, mask in pairs
        ]  # images differ in size: one by one
        done = [
            self.apply(image.to(device), mask.to(device), crop, normalize, ignored)
            for (image, mask), crop in zip(pairs, crops, strict=True)
        ]
        images, masks = zip(*done, strict=True)
        return torch.stack(images), torch.stack(masks)
