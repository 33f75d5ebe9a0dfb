"""Class logits of whole images, with or without a sliding window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from jaxtyping import Float, UInt8
from torch import Tensor

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.models.backbone import Backbone

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
        self, predict: Callable[[Tensor], Tensor], image: UInt8[Tensor, "c h w"], backbone: Backbone
    ) -> Float[Tensor, "n h w"]:
        """Return the class logits of every pixel.

        Args:
            predict: maps normalized images "b c y x" to logits "b n y x".
            image: 0..255.
            backbone: normalizes the image; sets the multiple to which it is padded.
        """
        h, w = self.resized(image.shape[-2], image.shape[-1])
        logits = self.slide(predict, self.prepare(image, backbone))[..., :h, :w]
        return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)[0]

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an image after resizing, before padding."""
        factor = (self.short_side or min(height, width)) / min(height, width)
        return max(round(height * factor), 1), max(round(width * factor), 1)

    def num_views(self, shape: Sequence[int], view_size: int) -> float:
        """Return the area of an image "h w" after resizing in views of this side, for estimates of time."""
        h, w = self.resized(shape[0], shape[1])
        return h * w / view_size**2

    def prepare(self, image: UInt8[Tensor, "c h w"], backbone: Backbone) -> Float[Tensor, "1 c y x"]:
        """Resize and normalize an image, and pad it with zeros at the bottom right to whole patches."""
        h, w = self.resized(image.shape[-2], image.shape[-1])
        pixels = backbone.normalize(V.resize(image.float() / 255, [h, w], antialias=True)[None])
        return F.pad(pixels, (0, -w % backbone.patch_size, 0, -h % backbone.patch_size))

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the rows and columns of the windows of an image of this size."""
        h, w = min(self.size or height, height), min(self.size or width, width)
        starts = self.starts(height, h), self.starts(width, w)
        return [(slice(y, y + h), slice(x, x + w)) for y in starts[0] for x in starts[1]]

    def slide(
        self, predict: Callable[[Tensor], Tensor], image: Float[Tensor, "1 c h w"]
    ) -> Float[Tensor, "1 n h w"]:
        """Return the mean of the logits of all windows at each pixel."""
        height, width = image.shape[-2:]
        places = self.windows(height, width)
        windows = torch.cat([image[..., rows, columns] for rows, columns in places])
        logits = (logits for batch in windows.split(WINDOWS_PER_BATCH) for logits in predict(batch))
        total: Any = None
        count = image.new_zeros(height, width)
        for (rows, columns), window in zip(places, logits, strict=True):
            total = window.new_zeros(1, len(window), height, width) if total is None else total
            total[0, :, rows, columns] += window
            count[rows, columns] += 1
        return total / count

    def starts(self, length: int, window: int) -> list[int]:
        """Return the first row (or column) of each window. The last window ends at the edge of the image."""
        step = max(int(window * (1 - self.overlap)), 1)
        return [*range(0, length - window, step), length - window]
