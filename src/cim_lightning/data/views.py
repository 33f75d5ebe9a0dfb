"""Views: what a CPU worker makes of a decoded image, as uint8 pixels; the rest happens on the device."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cim_lightning.data.sources import Source
from cim_lightning.errors import BadImageError, ConfigError

log = logging.getLogger(__name__)
DRAWS = 10  # of area and ratio until a view fits into its image, as every random-resized crop does
View = Callable[[Image.Image, np.random.Generator], Image.Image]  # all that is random, of the generator
MOST_BAD = 100  # undecodable images in a row after which the data set, not an image, is at fault


class Batch(NamedTuple):
    """Views as they leave the workers."""

    views: UInt8[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"]  # -1 where there is none
    seed: int  # of all that is random on the device about this batch


class RandomResizedCropFlip:
    """Random-resized crop with a horizontal flip, bicubic and antialiased (paper: conf/data/_images.yaml).

    Args:
        size: side of the view in pixels.
        scale: smallest and largest share of the image's area, 0 < low <= high <= 1.
        ratio: smallest and largest width / height of the crop.
        flip: probability of mirroring left to right.
    """

    def __init__(self, size: int, scale: Sequence[float], ratio: Sequence[float], flip: float):
        if size < 1:
            raise ConfigError(f"data.view_size={size}: at least 1 pixel; try 1")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"data.view_scale={list(scale)}: 0 < low <= high <= 1; try [0.5, 1.0]")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(f"data.view_ratio={list(ratio)}: 0 < low <= high; try [0.75, 1.3333]")
        if not 0 <= flip <= 1:
            raise ConfigError(f"data.view_flip={flip}: a probability is in 0..1; try {min(max(flip, 0), 1)}")
        self.size, self.scale, self.ratio, self.flip = size, scale, ratio, flip

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        view = image.resize(
            (self.size, self.size), Image.Resampling.BICUBIC, box=self.sample(*image.size, rng)
        )
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < self.flip else view

    def sample(self, width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of a crop; the whole image, cut to the nearest ratio, if none fits."""
        least, most = math.log(self.ratio[0]), math.log(self.ratio[1])
        area = rng.uniform(*self.scale, size=DRAWS) * width * height
        ratio = np.exp(rng.uniform(least, most, size=DRAWS))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        fits = np.flatnonzero((w <= width) & (h <= height))
        if len(fits):
            wide, high = float(w[fits[0]]), float(h[fits[0]])
            left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
        else:
            wide, high = min(width, height * self.ratio[1]), min(height, width / self.ratio[0])
            left, top = (width - wide) / 2, (height - high) / 2
        return left, top, min(left + wide, width), min(top + high, height)


class CenterCrop:
    """The largest centered square of an image, as evaluation sees it.

    Args:
        size: side of the view in pixels.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)


class Views(Dataset[tuple[Tensor, int, int]]):
    """One view of an image, the same for the same (seed, epoch, index) whoever asks and when.

    Indexed by (epoch, index). An image that cannot be decoded is reported, once by each process, and replaced
    by the next one that can.
    """

    def __init__(self, source: Source, view: View, seed: int):
        self.source, self.view, self.seed = source, view, seed
        self.reported: set[int] = set()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int]:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        image, label = self._decoded(index)
        pixels = np.asarray(self.view(image, rng))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1), label, int(rng.integers(2**62))

    def _decoded(self, index: int) -> tuple[Image.Image, int]:
        for step in range(MOST_BAD):
            there = (index + step) % len(self.source)
            try:
                return self.source[there]
            except BadImageError as error:
                if there not in self.reported:
                    self.reported.add(there)
                    log.warning("skipped an image: %s", error)
        raise ConfigError(
            f"data: {MOST_BAD} images in a row cannot be decoded; see the warnings above for their paths"
        )


def collate(samples: list[tuple[Tensor, int, int]]) -> Batch:
    """A batch's seed is that of its first image, whose (seed, epoch, index) no other batch begins with."""
    views, labels, seeds = zip(*samples, strict=True)
    return Batch(torch.stack(views), torch.tensor(labels), seeds[0])
