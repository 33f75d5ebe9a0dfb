"""Whole views, and which of their cells are hidden: what masked image modelling reads."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cim_lightning.cropping.whole import WholeCropper
from cim_lightning.errors import SettingError


class Masked(NamedTuple):
    """b images, each with the same number of hidden cells."""

    images: Float[Tensor, "b c s s"]
    hidden: Bool[Tensor, "b h w"]  # a cell is square: s / h pixels a side
    count: int  # hidden cells an image


class MaskedCropper:
    """Resizes views and draws which cells of each are hidden, uniformly among all choices of that many.

    Args:
        size: side of the images in pixels (s); a multiple of unit.
        unit: side of a cell in pixels.
        ratio: share of the cells that are hidden, above 0 and below 1; rounded up to whole cells.
        normalize: maps images of 0..1 to what the backbone reads; None leaves them.

    Raises:
        SettingError: a setting is outside its limits, or hides all of an image.
    """

    def __init__(
        self, size: int, unit: int, ratio: float, normalize: Callable[[Tensor], Tensor] | None = None
    ):
        self.whole = WholeCropper(size, normalize)
        if unit < 1 or size % unit:
            fitting = [side for side in range(1, size + 1) if size % side == 0]
            near = min(fitting, key=lambda side: abs(side - unit))
            raise SettingError(f"cropping.unit={unit}: must divide cropping.size={size}; nearest: {near}")
        if unit == size:
            raise SettingError(f"cropping.unit={unit}: is all of an image; nearest: a divisor of {size}")
        self.grid = size // unit
        self.count = math.ceil(ratio * self.grid**2 - 1e-6)
        if not 0 < ratio < 1 or self.count == self.grid**2:
            near = min(max(ratio, 0.1), (self.grid**2 - 1) / self.grid**2)
            raise SettingError(
                f"cropping.ratio={ratio}: a share above 0 that leaves one of {self.grid}x{self.grid} cells; "
                f"nearest: {near:.4g}"
            )

    @property
    def normalize(self) -> Callable[[Tensor], Tensor]:
        return self.whole.normalize

    def __call__(self, views: UInt8[Tensor, "b c h w"], seed: int) -> Masked:
        """Images of uint8 views and what is hidden of them; the same views and seed give the same."""
        generator = torch.Generator(views.device).manual_seed(seed)
        return Masked(self.whole(views, seed).images, self.sample(len(views), generator), self.count)

    def sample(self, b: int, generator: torch.Generator) -> Bool[Tensor, "b h w"]:
        """Draws the hidden cells of b images, on the generator's device."""
        noise = torch.rand(b, self.grid**2, generator=generator, device=generator.device)
        rank = noise.argsort(dim=1).argsort(dim=1)
        return (rank < self.count).unflatten(1, (self.grid, self.grid))
