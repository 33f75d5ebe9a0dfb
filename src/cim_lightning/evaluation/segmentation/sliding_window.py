"""Class logits of whole images, with or without a sliding window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, UInt8
from torch import Tensor

from cim_lightning.checks import check_at_least, check_share

WINDOWS_PER_BATCH = 8


@dataclass
class SlidingWindow:
    """Class logits of an image of any size. Logits of overlapping windows are averaged."""

    short_side: int | None  # short side of the image after resizing, in pixels; None: no resizing
    size: int | None  # side of a window in pixels; None: one window for the whole image
    overlap: float  # minimum overlap of neighboring windows, as a share of a window, 0 to below 1

    def __post_init__(self) -> None:
        check_at_least("short_side", self.short_side, 1)
        check_at_least("size", self.size, 1)
        check_share("overlap", self.overlap, one=False)

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],
        image: UInt8[Tensor, "c h w"],
        normalize: Callable[[Tensor], Tensor],
        multiple: tuple[int, int],
    ) -> Float[Tensor, "n h w"]:
        """Return the class logits of every pixel.

        Args:
            model: maps normalized images "b c y x" to logits "b n y x".
            image: 0..255.
            normalize: maps images in 0..1 to the model's input.
            multiple: divisors of the heights and widths that the model accepts. Images are padded with zeros
                at the bottom right.
        """
        height, width = image.shape[-2:]
        factor = (self.short_side or min(height, width)) / min(height, width)
        h, w = max(round(height * factor), 1), max(round(width * factor), 1)
        pixels = normalize(V.resize(image.float() / 255, [h, w], antialias=True)[None])
        padded = F.pad(pixels, (0, -w % multiple[1], 0, -h % multiple[0]))
        logits = self.slide(model, padded)[..., :h, :w]
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0]

    def slide(
        self, model: Callable[[Tensor], Tensor], image: Float[Tensor, "1 c h w"]
    ) -> Float[Tensor, "1 n h w"]:
        """Return the mean of the logits of all windows at each pixel."""
        height, width = image.shape[-2:]
        h, w = min(self.size or height, height), min(self.size or width, width)
        corners = [(y, x) for y in self.starts(height, h) for x in self.starts(width, w)]
        windows = torch.cat([image[..., y : y + h, x : x + w] for y, x in corners])
        logits = (logits for batch in windows.split(WINDOWS_PER_BATCH) for logits in model(batch))
        total: Any = None
        count = image.new_zeros(height, width)
        for (y, x), window in zip(corners, logits, strict=True):
            total = window.new_zeros(1, len(window), height, width) if total is None else total
            total[0, :, y : y + h, x : x + w] += window
            count[y : y + h, x : x + w] += 1
        return total / count

    def starts(self, length: int, window: int) -> list[int]:
        """Return the first row (or column) of each window. The last window ends at the edge of the image."""
        step = max(int(window * (1 - self.overlap)), 1)
        return [*range(0, length - window, step), length - window]
