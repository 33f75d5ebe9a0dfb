"""Random scale, crop and flip of images together with their masks, on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cim_lightning.bounds import at_least, ordered, share


class MaskCrop(NamedTuple):
    """A rectangle of an image in pixels, and its size after resizing."""

    top: int
    left: int
    height: int
    width: int
    out_height: int  # below the crop size if the image is too small
    out_width: int
    mirrored: bool


@dataclass
class RandomScaleCrop:
    """Sample and apply random crops."""

    size: int  # side of a crop in pixels
    short_side: int | None  # short side of the image at scale 1, in pixels; None: as in the file
    scale: Sequence[float]  # smallest and largest scale
    flip: float  # probability of a horizontal flip

    def __post_init__(self) -> None:
        at_least("size", self.size, 1)
        at_least("short_side", self.short_side, 1)
        ordered("scale", self.scale, suggest=[0.5, 2.0])
        share("flip", self.flip)

    def sample(self, height: int, width: int, generator: torch.Generator) -> MaskCrop:
        """Sample the crop of an image of this size; the generator is on the CPU."""
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
        ignore_index: int,
    ) -> tuple[Float[Tensor, "c s s"], Int64[Tensor, "s s"]]:
        """Return the normalized crop and its mask, padded at the bottom right with 0 and `ignore_index`."""
        height, width = size = [crop.out_height, crop.out_width]
        pixels = V.resized_crop(image.float() / 255, *crop[:4], size)
        labels = V.resized_crop(mask[None], *crop[:4], size, V.InterpolationMode.NEAREST_EXACT)
        if crop.mirrored:
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        padding = [0, 0, self.size - width, self.size - height]
        pixels = V.pad(normalize(pixels[None])[0], padding, fill=0.0)
        return pixels, V.pad(labels, padding, fill=float(ignore_index))[0].long()

    def batch(
        self,
        pairs: Sequence[tuple[Tensor, Tensor]],
        device: torch.device,
        normalize: Callable[[Tensor], Tensor],
        ignore_index: int,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "b c s s"], Int64[Tensor, "b s s"]]:
        """Return one random crop of each image, whose sizes may differ, and of its mask."""
        cropped = []
        for image, mask in pairs:
            crop = self.sample(mask.shape[0], mask.shape[1], generator)
            cropped.append(self.apply(image.to(device), mask.to(device), crop, normalize, ignore_index))
        images, masks = zip(*cropped, strict=True)
        return torch.stack(images), torch.stack(masks)
