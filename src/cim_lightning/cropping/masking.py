"""Resized views with random masks, for masked image modeling."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_divides
from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom


class MaskedImages(NamedTuple):
    """Images in 0..1, and a mask for each with the same number of masked cells."""

    images: Float[Tensor, "b c s s"]
    mask: Bool[Tensor, "b h w"]  # True: the cell is masked; a cell has s / h x s / w pixels
    num_masked: int  # masked cells per image

    @property
    def num_images(self) -> int:
        return len(self.images)


@dataclass
class MaskedCropper(ResizeCropper):
    """Resizes views and masks the same number of random cells in each."""

    mask_patch_size: int = 16  # side of a cell in pixels; divides `size` and is below it
    mask_ratio: float = 0.75  # share of masked cells, above 0 and below 1; rounded up to whole cells

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"must divide size={self.size} and be below it"
        check_divides("mask_patch_size", self.mask_patch_size, self.size, rule, parts=2)
        self.grid = self.size // self.mask_patch_size
        cells = self.grid**2
        valid = 0 < self.mask_ratio < 1  # not for NaN and infinity
        self.num_masked = math.ceil(self.mask_ratio * cells - 1e-6) if valid else cells
        if self.num_masked == cells:
            nearest = float(f"{min(max(self.mask_ratio, 0.1), (cells - 1) / cells):.4g}")
            rule = f"must be above 0 and leave one of {self.grid}x{self.grid} cells visible"
            raise ConfigError("mask_ratio", self.mask_ratio, rule, suggest=nearest)

    def sample(self, view: tuple[int, int], random: ImageRandom) -> Bool[Tensor, "b g g"]:
        rank = random.permutation(self.grid**2)
        return (rank < self.num_masked).unflatten(1, (self.grid, self.grid))

    def crop(self, images: Float[Tensor, "b c h w"], params: Bool[Tensor, "b g g"]) -> MaskedImages:
        return MaskedImages(super().crop(images, None).images, params, self.num_masked)
