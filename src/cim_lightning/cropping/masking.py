"""Resized views with random masks, for masked image modeling."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError


class MaskedImages(NamedTuple):
    """Normalized images, and masks with the same number of masked cells in each."""

    images: Float[Tensor, "b c s s"]
    mask: Bool[Tensor, "b h w"]  # True: the cell is masked; a cell has s / h x s / w pixels
    num_masked: int  # masked cells per image


class MaskedCropper(ResizeCropper):
    """Resizes views and masks a fixed number of random cells of each.

    Args:
        size: side of the images in pixels (s).
        mask_patch_size: side of a cell in pixels; divides `size`.
        mask_ratio: share of masked cells, above 0 and below 1; rounded up to whole cells.
        normalize: see Cropper.

    Raises:
        ConfigError: a value is outside its range, or would mask the whole image.
    """

    def __init__(
        self,
        size: int,
        mask_patch_size: int,
        mask_ratio: float,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(size, normalize)
        divisors = [side for side in range(1, size // 2 + 1) if size % side == 0] or [1]
        if mask_patch_size not in divisors:
            nearest = min(divisors, key=lambda side: abs(side - mask_patch_size))
            rule = f"must divide the size of {size} and be below it"
            raise ConfigError("mask_patch_size", mask_patch_size, rule, suggest=nearest)
        self.grid = size // mask_patch_size
        cells = self.grid**2
        self.num_masked = math.ceil(mask_ratio * cells - 1e-6)
        if not 0 < mask_ratio < 1 or self.num_masked == cells:
            nearest = float(f"{min(max(mask_ratio, 0.1), (cells - 1) / cells):.4g}")
            rule = f"must be above 0 and leave one of {self.grid}x{self.grid} cells visible"
            raise ConfigError("mask_ratio", mask_ratio, rule, suggest=nearest)

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> Bool[Tensor, "b g g"]:
        noise = torch.rand(b, self.grid**2, generator=generator, device=generator.device)
        rank = noise.argsort(dim=1).argsort(dim=1)
        return (rank < self.num_masked).unflatten(1, (self.grid, self.grid))

    def crop(self, images: Float[Tensor, "b c h w"], params: Bool[Tensor, "b g g"]) -> Any:
        return MaskedImages(super().crop(images, None).images, params, self.num_masked)
