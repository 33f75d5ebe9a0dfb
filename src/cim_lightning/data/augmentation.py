"""Views for training on labels: cropped more tightly than for pre-training, and changed at random."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform

from cim_lightning.data.views import RandomResizedCropFlip
from cim_lightning.errors import ConfigError
from cim_lightning.rng import fork_rng

WORDS = re.compile(r"rand(-(m\d+|n\d+|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]))*")
MEAN_COLOR = (124, 116, 104)  # ImageNet's, where a turned or shifted image leaves nothing


class RandAugmentCrop:
    """A random view, then RandAugment.

    Args:
        size: of the views; None: it is still to be given, by `sized`.
        scale, ratio, flip: see RandomResizedCropFlip.
        randaugment: timm's words for RandAugment (Cubuk et al., NeurIPS 2020), such as
            "rand-m9-mstd0.5-inc1": magnitude 9 of 10 with deviation 0.5; None leaves views as they are.

    Raises:
        ConfigError: a setting is outside its limits, or timm cannot read the words.
    """

    def __init__(
        self,
        size: int | None,
        scale: Sequence[float],
        ratio: Sequence[float],
        flip: float,
        randaugment: str | None,
    ):
        self.size, self.randaugment = size, randaugment
        self.scale, self.ratio, self.flip = scale, ratio, flip
        self._view = RandomResizedCropFlip(size or 1, scale, ratio, flip)
        self._change = None if randaugment is None else _rand_augment(randaugment, size or 1)

    def sized(self, size: int) -> "RandAugmentCrop":
        """The same of that size, where it has none of its own."""
        return RandAugmentCrop(self.size or size, self.scale, self.ratio, self.flip, self.randaugment)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        view = self._view(image, rng)
        if self._change is None:
            return view
        with fork_rng(int(rng.integers(2**62))):  # timm draws from the global streams
            return self._change(view)


def _rand_augment(words: str, size: int) -> RandAugment:
    if not WORDS.fullmatch(words):  # timm passes over what it does not know
        raise ConfigError(f"randaugment={words}: timm cannot read it; try rand-m9-mstd0.5-inc1, or null")
    hparams = {"translate_const": math.floor(0.45 * size), "img_mean": MEAN_COLOR}
    change = rand_augment_transform(words, hparams)
    for one in change.ops:
        if one.name.startswith("Posterize"):
            one.level_fn = partial(_bits, one.level_fn)
    return change


def _bits(level_fn: Callable[..., tuple[int]], level: float, hparams: Any) -> tuple[int]:
    """At least one: where timm keeps none, an image is black, and Pillow 13 raises an error."""
    return (max(level_fn(level, hparams)[0], 1),)
