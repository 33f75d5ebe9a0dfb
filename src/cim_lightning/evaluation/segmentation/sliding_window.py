"""Class logits of whole images, at once or from a sliding window."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, UInt8
from torch import Tensor

from cim_lightning.errors import ConfigError

SETTING = "evaluation.segmentation.inference"
CHUNK = 8  # windows at a time


class SlidingWindow:
    """How an image of any size is predicted.

    Args:
        short_side: what the short side of an image is brought to, in pixels; null: it stays as it is.
        size: side of a window in pixels; null: the whole image is one window.
        overlap: least share of a window, 0..1, that the next one sees too; logits are averaged there.

    Raises:
        ConfigError: a setting is outside its limits.
    """

    def __init__(self, short_side: int | None, size: int | None, overlap: float):
        for name, value in (("short_side", short_side), ("size", size)):
            if value is not None and value < 1:
                raise ConfigError(f"{SETTING}.{name}={value}: at least 1 pixel; try 1")
        if not 0 <= overlap < 1:
            raise ConfigError(f"{SETTING}.overlap={overlap}: 0 to below 1; try 0.5")
        self.short_side, self.size, self.overlap = short_side, size, overlap

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],
        image: UInt8[Tensor, "c h w"],
        normalize: Callable[[Tensor], Tensor],
        multiple: tuple[int, int],
    ) -> Float[Tensor, "n h w"]:
        """Class logits a pixel of the image.

        Args:
            model: maps normalized images "b c y x" to logits "b n y x".
            image: 0..255.
            normalize: maps images of 0..1 to what the model reads.
            multiple: rows and columns of which the model reads whole multiples; images are filled up with
                zeros below and at the right.
        """
        height, width = image.shape[-2:]
        factor = (self.short_side or min(height, width)) / min(height, width)
        size = [max(round(height * factor), 1), max(round(width * factor), 1)]
        pixels = V.resize(image.float() / 255, size, V.InterpolationMode.BILINEAR, antialias=True)
        short = [-side % whole for side, whole in zip(size, multiple, strict=True)]
        logits = self.slide(model, F.pad(normalize(pixels[None]), (0, short[1], 0, short[0])))
        logits = logits[..., : size[0], : size[1]]
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0]

    def slide(
        self, model: Callable[[Tensor], Tensor], image: Float[Tensor, "1 c h w"]
    ) -> Float[Tensor, "1 n h w"]:
        """Mean of the logits of all windows that see a pixel."""
        height, width = image.shape[-2:]
        tall, wide = min(self.size or height, height), min(self.size or width, width)
        corners = [(y, x) for y in self.starts(height, tall) for x in self.starts(width, wide)]
        total, seen = image.new_zeros(()), image.new_zeros(height, width)
        for i in range(0, len(corners), CHUNK):
            some = corners[i : i + CHUNK]
            logits = model(torch.cat([image[..., y : y + tall, x : x + wide] for y, x in some]))
            if total.ndim == 0:
                total = logits.new_zeros(1, logits.shape[1], height, width)
            for (y, x), window in zip(some, logits, strict=True):
                total[0, :, y : y + tall, x : x + wide] += window
                seen[y : y + tall, x : x + wide] += 1
        return total / seen

    def starts(self, length: int, window: int) -> list[int]:
        """First rows (or columns) of the windows on a side; the last ends where the image does."""
        step = max(int(window * (1 - self.overlap)), 1)
        return [*range(0, length - window, step), length - window]
