"""Random scale, crop and flip of images together with their masks, on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cim_lightning.checks import check_at_least, check_ordered, check_share
from cim_lightning.data.segmentation import IGNORE_INDEX
from cim_lightning.data.segmentation_batches import MaskSample


class MaskCrop(NamedTuple):
    """A rectangle of an image in pixels, and its size after resizing."""

    top: int
    left: int
    height: int
    width: int
    out_height: int  # below the crop size if the image is too small
    out_width: int
    flipped: bool


class MaskCrops(NamedTuple):
    """A batch of normalized crops and their masks."""

    images: Float[Tensor, "b c s s"]
    masks: Int64[Tensor, "b s s"]

    @property
    def num_images(self) -> int:
        return len(self.images)


@dataclass
class RandomScaleCrop:
    """Sample and apply random crops."""

    size: int  # side of a crop in pixels
    short_side: int | None  # short side of the image at scale 1, in pixels; None: that of the file
    scale: Sequence[float]  # smallest and largest scale
    flip: float  # probability of a horizontal flip

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_at_least("short_side", self.short_side, 1)
        check_ordered("scale", self.scale, suggest=[0.5, 2.0])
        check_share("flip", self.flip)

    def sample(self, height: int, width: int, generator: torch.Generator) -> MaskCrop:
        """Sample the crop of an image of this size in pixels; the generator is on the CPU."""
        scale, top, left, flip = torch.rand(4, generator=generator).tolist()
        factor = self.scale[0] + scale * (self.scale[1] - self.scale[0])
        factor *= (self.short_side or min(height, width)) / min(height, width)
        side = max(round(self.size / factor), 1)
        h, w = min(side, height), min(side, width)
        out_h, out_w = (self.size if n == side else min(max(round(n * factor), 1), self.size) for n in (h, w))
        top, left = round(top * (height - h)), round(left * (width - w))
        return MaskCrop(top, left, h, w, out_h, out_w, flip < self.flip)

    def apply(
        self,
        image: UInt8[Tensor, "c h w"],
        mask: UInt8[Tensor, "h w"],
        crop: MaskCrop,
        normalize: Callable[[Tensor], Tensor],
    ) -> tuple[Float[Tensor, "c s s"], Int64[Tensor, "s s"]]:
        """Return the normalized crop and its mask, padded at the bottom right with 0 and IGNORE_INDEX."""
        size = [crop.out_height, crop.out_width]
        pixels = V.resized_crop(image.float() / 255, *crop[:4], size)
        labels = V.resized_crop(mask[None], *crop[:4], size, V.InterpolationMode.NEAREST_EXACT)
        if crop.flipped:
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        padding = [0, 0, self.size - crop.out_width, self.size - crop.out_height]
        pixels = V.pad(normalize(pixels[None])[0], padding, fill=0.0)
        return pixels, V.pad(labels, padding, fill=float(IGNORE_INDEX))[0].long()

    def batch(self, samples: Sequence[MaskSample], normalize: Callable[[Tensor], Tensor]) -> MaskCrops:
        """Return a random crop of each sample, a function of its seed. The sizes of the images may differ."""
        crops = []
        for image, mask, seed in samples:
            crop = self.sample(mask.shape[0], mask.shape[1], torch.Generator().manual_seed(seed))
            crops.append(self.apply(image, mask, crop, normalize))
        images, masks = zip(*crops, strict=True)
        return MaskCrops(torch.stack(images), torch.stack(masks))
