"""Augmentation for supervised training: a random-resized crop, then RandAugment."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from timm.data.auto_augment import rand_augment_transform

from cim_lightning.data.pixel_format import RGB8, PixelFormat, Pixels
from cim_lightning.data.resampling import to_pillow
from cim_lightning.data.view_dataset import RandomResizedCropFlip
from cim_lightning.errors import ConfigError
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)
RANDAUGMENT = re.compile(r"rand(-(m\d+|n\d+|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]))*")
FILL_COLOR = (124, 116, 104)  # ImageNet's mean, for the borders of rotated and shifted images


@dataclass(eq=False)
class RandAugmentCrop:
    """A random-resized crop with a flip, then RandAugment (Cubuk et al., NeurIPS 2020).

    The string of timm's RandAugment "rand-m9-mstd0.5-inc1" means magnitude 9 of 10, standard deviation 0.5.

    Raises:
        ConfigError: a parameter is out of range, or timm cannot parse the string.
    """

    size: int | None  # side of the view in pixels; None: set later by `for_images`
    scale: Sequence[float]  # see RandomResizedCropFlip, as for ratio and flip
    ratio: Sequence[float]
    flip: float
    randaugment: str | None  # timm's string; None: no RandAugment

    def __post_init__(self):
        size = self.size or 1
        self._crop = RandomResizedCropFlip(size, self.scale, self.ratio, self.flip)
        self._augment = None
        if self.randaugment is None:
            return
        if not RANDAUGMENT.fullmatch(self.randaugment):  # timm ignores unknown parts
            hint = "try rand-m9-mstd0.5-inc1, or null for none"
            raise ConfigError("randaugment", self.randaugment, "timm cannot parse it", hint=hint)
        hparams = {"translate_const": int(0.45 * size), "img_mean": FILL_COLOR}
        self._augment = rand_augment_transform(self.randaugment, hparams)
        for op in self._augment.ops:
            if op.name.startswith("Posterize"):
                op.level_fn = partial(_posterize_bits, op.level_fn)

    def for_images(self, size: int, pixels: PixelFormat = RGB8) -> "RandAugmentCrop":
        """Return a copy for images of a format; its size is `size` if it was None.

        RandAugment is for RGB images of 8 bits. For others it is skipped, with a line in the log.
        """
        randaugment = self.randaugment if pixels.is_rgb8 else None
        if randaugment != self.randaugment:
            log.info("RandAugment is skipped: it needs RGB images of 8 bits")
        return replace(self, size=self.size or size, randaugment=randaugment)

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        view = self._crop(image, rng)
        if self._augment is None:
            return view
        with fork_rng(int(rng.integers(2**62))):  # timm draws from the global random streams
            return self._augment(to_pillow(view))


def _posterize_bits(level_fn: Callable[..., tuple[int]], level: float, hparams: Any) -> tuple[int]:
    # timm's 0 bits make an image black, and raise an error since Pillow 13.
    return (max(level_fn(level, hparams)[0], 1),)
