"""Rotated boxes: the regions of a view that crops are taken from.

Coordinates are in view pixels, x to the right and y down, with pixel centers at half-integers: a view of
height h and width w covers [0, w] x [0, h]. A positive angle is clockwise on the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.bounds import ordered, within

# Area and ratio are redrawn until the box fits, as in a random-resized crop. With the paper's settings, ten
# draws fail for about one box in 10^5, which is clipped to the view.
DRAWS = 10


@dataclass(frozen=True)
class Boxes:
    """k rotated boxes in each of b views, in view pixels and radians."""

    center: Float[Tensor, "b k 2"]
    size: Float[Tensor, "b k 2"]
    angle: Float[Tensor, "b k"]
    view: tuple[int, int]  # height and width of the views

    def __getitem__(self, views: slice) -> "Boxes":
        """Return the boxes of a slice of the views."""
        return Boxes(self.center[views], self.size[views], self.angle[views], self.view)

    @property
    def corners(self) -> Float[Tensor, "b k 4 2"]:
        """Top left, top right, bottom right and bottom left corner before the rotation."""
        cos, sin = self.angle.cos()[..., None], self.angle.sin()[..., None]
        signs = self.center.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
        x, y = (signs * self.size[:, :, None]).unbind(dim=-1)
        return self.center[:, :, None] + torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)

    @property
    def area(self) -> Float[Tensor, "b k"]:
        """Share of the view that a box covers, in 0..1."""
        height, width = self.view
        return self.size.prod(dim=-1) / (height * width)

    def rasterize(self, height: int, width: int) -> Bool[Tensor, "b k {height} {width}"]:
        """Return masks of height x width pixels over the view, True where the pixel center is in the box."""
        device = self.center.device
        y = (torch.arange(height, device=device) + 0.5) * (self.view[0] / height) - self.center[..., 1, None]
        x = (torch.arange(width, device=device) + 0.5) * (self.view[1] / width) - self.center[..., 0, None]
        cos, sin = self.angle.cos()[..., None], self.angle.sin()[..., None]
        # Coordinates along the axes of a box are a term per column plus a term per row.
        across = ((cos * x)[..., None, :] + (sin * y)[..., None]).abs() <= self.size[..., 0, None, None] / 2
        along = ((cos * y)[..., None] - (sin * x)[..., None, :]).abs() <= self.size[..., 1, None, None] / 2
        return across & along


class BoxSampler:
    """Samples boxes inside the view as the paper does (section 3.1; the README compares distributions).

    An upright box has a uniform area, a log-uniform aspect ratio and a uniform position. It is replaced by
    the box at a random angle that encloses it. If that exceeds the view, its center moves half-way to the
    nearest position where it would not, and then it shrinks about its center until it fits. Half-way keeps
    the covered area of the published sampler.

    Args:
        scale: smallest and largest area before rotation, as a share of the view; 0 < low <= high <= 1.
        ratio: smallest and largest width / height; 0 < low <= high <= 100.
        rotation: largest angle in degrees, 0..180; angles are uniform in -rotation..rotation.

    Raises:
        ConfigError: a value is outside its range.
    """

    def __init__(self, scale: Sequence[float], ratio: Sequence[float], rotation: float):
        self.scale = ordered("scale", scale, high=1, suggest=[0.05, 0.48])
        self.ratio = ordered("ratio", ratio, high=100, suggest=[0.5, 2.0])
        within("rotation", rotation, 0, 180)
        self.rotation = math.radians(rotation)

    def sample(self, b: int, k: int, view: tuple[int, int], generator: torch.Generator) -> Boxes:
        """Sample k boxes in each of b views of (height, width) pixels, on the generator's device."""
        device = generator.device
        limits = torch.tensor([view[1], view[0]], dtype=torch.float32, device=device)
        upright = self._upright(b, k, limits, generator)
        center = upright / 2 + torch.rand(b, k, 2, generator=generator, device=device) * (limits - upright)
        angle = (torch.rand(b, k, generator=generator, device=device) * 2 - 1) * self.rotation
        size = _enclosing_size(upright, angle)
        center, size = _fit_inside(center, size, angle, limits)
        return Boxes(center, size, angle, view)

    def _upright(
        self, b: int, k: int, limits: Float[Tensor, "2"], generator: torch.Generator
    ) -> Float[Tensor, "b k 2"]:
        """Return width and height of upright boxes: the first of several draws that fits into the view."""
        area, ratio = torch.rand(2, b, k, DRAWS, generator=generator, device=limits.device)
        area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * limits.prod()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + ratio * (high - low))
        draws = torch.stack((torch.sqrt(area * ratio), torch.sqrt(area / ratio)), dim=-1)
        first = (draws <= limits).all(dim=-1).int().argmax(dim=-1)
        chosen = draws.take_along_dim(first[..., None, None], dim=2).squeeze(2)
        return torch.minimum(chosen, limits)


def _enclosing_size(size: Float[Tensor, "b k 2"], angle: Float[Tensor, "b k"]) -> Float[Tensor, "b k 2"]:
    """Return the size of the smallest box at `angle` that encloses an upright one; also the reverse."""
    cos, sin = angle.cos().abs()[..., None], angle.sin().abs()[..., None]
    return size * cos + size.flip(-1) * sin


def _fit_inside(
    center: Float[Tensor, "b k 2"],
    size: Float[Tensor, "b k 2"],
    angle: Float[Tensor, "b k"],
    limits: Float[Tensor, "2"],
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k 2"]]:
    """Move boxes half-way to where they would fit, then shrink them about their centers until they fit."""
    extent = _enclosing_size(size, angle)
    reach = torch.minimum(extent, limits) / 2
    center = (center + torch.minimum(torch.maximum(center, reach), limits - reach)) / 2
    room = 2 * torch.minimum(center, limits - center)
    fit = (room / extent).amin(dim=-1, keepdim=True).clamp(max=1)
    return center, size * fit
