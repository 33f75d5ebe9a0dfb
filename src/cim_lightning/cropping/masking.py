"""ImageBatch views, and which of their cells are hidden: what masked image modeling reads."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError


class MaskedImages(NamedTuple):
    """b images, each with the same number of hidden cells."""

    images: Float[Tensor, "b c s s"]
    mask: Bool[Tensor, "b h w"]  # a cell is square: s / h pixels a side
    num_masked: int  # hidden cells an image


class MaskedCropper:
    """Resizes views and draws which cells of each are mask, uniformly among all choices of that many.

    Args:
        size: side of the images in pixels (s); a multiple of mask_patch_size.
        mask_patch_size: side of a cell in pixels.
        mask_ratio: share of the cells that are mask, above 0 and below 1; rounded up to whole cells.
        normalize: maps images of 0..1 to what the backbone reads; None leaves them.

    Raises:
        ConfigError: a setting is outside its limits, or hides all of an image.
    """

    def __init__(
        self,
        size: int,
        mask_patch_size: int,
        mask_ratio: float,
        normalize: Callable[[Tensor], Tensor] | None = None,
    ):
        self.whole = ResizeCropper(size, normalize)
        if mask_patch_size < 1 or size % mask_patch_size:
            fitting = [side for side in range(1, size + 1) if size % side == 0]
            near = min(fitting, key=lambda side: abs(side - mask_patch_size))
            raise ConfigError(
                f"cropping.mask_patch_size={mask_patch_size}: must divide cropping.size={size}; try {near}"
            )
        if mask_patch_size == size:
            raise ConfigError(
                f"cropping.mask_patch_size={mask_patch_size}: is all of an image; try a divisor of {size}"
            )
        self.grid = size // mask_patch_size
        self.num_masked = math.ceil(mask_ratio * self.grid**2 - 1e-6)
        if not 0 < mask_ratio < 1 or self.num_masked == self.grid**2:
            near = min(max(mask_ratio, 0.1), (self.grid**2 - 1) / self.grid**2)
            raise ConfigError(
                f"cropping.mask_ratio={mask_ratio}: above 0, leaving one of {self.grid}x{self.grid} cells; "
                f"try {near:.4g}"
            )

    @property
    def normalize(self) -> Callable[[Tensor], Tensor]:
        return self.whole.normalize

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> MaskedImages:
        """Images of uint8 views and what is hidden of them; the same views and seed give the same."""
        generator = torch.Generator(views.device).manual_seed(seed)
        return MaskedImages(
            self.whole(views, seed).images, self.sample(len(views), generator), self.num_masked
        )

    def sample(self, b: int, generator: torch.Generator) -> Bool[Tensor, "b h w"]:
        """Draws the hidden cells of b images, on the generator's device."""
        noise = torch.rand(b, self.grid**2, generator=generator, device=generator.device)
        rank = noise.argsort(dim=1).argsort(dim=1)
        return (rank < self.num_masked).unflatten(1, (self.grid, self.grid))
