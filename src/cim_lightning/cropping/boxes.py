"""Rotated boxes: the regions of a view that crops are taken from.

Coordinates are in view pixels, x to the right and y down, with pixel centers at half-integers: a view of
height h and width w covers [0, w] x [0, h]. A positive angle is clockwise on the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_ordered, check_within
from cim_lightning.cropping.chunks import map_chunks
from cim_lightning.cropping.constants import constant
from cim_lightning.cropping.cut_boxes import cut_to_view
from cim_lightning.image_random import ImageRandom

# Draws of area and ratio per box, of which the first that fits is taken, as in RandomResizedCrop. With the
# paper's settings, none of ten fits for about 1 box in 10^5; such a box is clipped to the view.
NUM_DRAWS = 10


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

    def to(self, *args: Any, **kwargs: Any) -> "Boxes":
        """Return the boxes on another device; the arguments are those of torch.Tensor.to."""
        center, size, angle = (t.to(*args, **kwargs) for t in (self.center, self.size, self.angle))
        return Boxes(center, size, angle, self.view)

    @property
    def corners(self) -> Float[Tensor, "b k 4 2"]:
        """Corners (x, y), clockwise from the corner that is top left before the rotation."""
        cos, sin = self.angle.cos()[..., None], self.angle.sin()[..., None]
        width, height = (self.size / 2).unbind(dim=-1)
        x = torch.stack((-width, width, width, -width), dim=-1)
        y = torch.stack((-height, -height, height, height), dim=-1)
        return self.center[:, :, None] + torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)

    @property
    def area(self) -> Float[Tensor, "b k"]:
        """Share of the view that a box covers, in 0..1."""
        height, width = self.view
        return self.size.prod(dim=-1) / (height * width)

    def positions(
        self, grid: tuple[int, int], flipped: Bool[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k n 2"]:
        """Return the centers (x, y) of the patches of each crop, in view pixels and row-major order.

        Args:
            grid: rows and columns of the crop's patches; n = rows * columns.
            flipped: which crops are mirrored, so that they show their boxes from right to left. None: none.
        """
        down, right = ((torch.arange(cells, device=self.center.device) + 0.5) / cells - 0.5 for cells in grid)
        x, y = self.size[..., 0, None] * right, self.size[..., 1, None] * down  # "b k columns", "b k rows"
        if flipped is not None:
            x = torch.where(flipped[..., None], -x, x)
        x, y = x[..., None, :], y[..., :, None]
        cos, sin = self.angle.cos()[..., None, None], self.angle.sin()[..., None, None]
        offsets = torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1).flatten(2, 3)
        return self.center[:, :, None] + offsets

    def rasterize(self, height: int, width: int) -> Bool[Tensor, "b k {height} {width}"]:
        """Return masks of height x width pixels over the view, True where the pixel center is in the box."""
        b, k = self.angle.shape
        return map_chunks(
            lambda images: self[images]._rasterize(height, width), b, k * height * width, self.angle.device
        )

    def _rasterize(self, height: int, width: int) -> Bool[Tensor, "b k {height} {width}"]:
        device = self.center.device
        y = (torch.arange(height, device=device) + 0.5) * (self.view[0] / height) - self.center[..., 1, None]
        x = (torch.arange(width, device=device) + 0.5) * (self.view[1] / width) - self.center[..., 0, None]
        cos, sin = self.angle.cos()[..., None], self.angle.sin()[..., None]
        # Each coordinate along the axes of a box is the sum of a term per column and a term per row.
        across = (cos * x)[..., None, :] + (sin * y)[..., None]
        along = (cos * y)[..., None] - (sin * x)[..., None, :]
        half = self.size[..., None, None] / 2
        return (across.abs_() <= half[:, :, 0]).logical_and_(along.abs_() <= half[:, :, 1])


@dataclass
class BoxSampler:
    """Samples boxes inside the view as the paper does (section 3.1).

    First it samples an upright box: uniform area, log-uniform aspect ratio, uniform position. Then it takes
    the smallest box at a random angle that encloses the upright one, and cuts the sides that exceed the view.
    Where shrinking the box about its center leaves twice the area or more, it is shrunk instead: a box as
    large as the view would become a strip. With the paper's settings, this is about 1 box in 4,000.
    """

    scale: Sequence[float]  # smallest and largest area before rotation, as shares of the view, 0..1
    ratio: Sequence[float]  # smallest and largest width / height, at most 100
    rotation: float  # largest angle in degrees, 0..180; angles are uniform in -rotation..rotation

    def __post_init__(self) -> None:
        self.scale = check_ordered("scale", self.scale, high=1, suggest=[0.05, 0.48])
        self.ratio = check_ordered("ratio", self.ratio, high=100, suggest=[0.5, 2.0])
        check_within("rotation", self.rotation, 0, 180)

    def sample(self, k: int, view: tuple[int, int], random: ImageRandom) -> Boxes:
        """Sample k boxes in the view of each image, of (height, width) pixels."""
        draws = (random.uniform(k, NUM_DRAWS), random.uniform(k, NUM_DRAWS))
        return self.from_uniform(*draws, random.uniform(k, 2), random.uniform(k), view)

    def from_uniform(
        self,
        area: Float[Tensor, "b k draws"],
        ratio: Float[Tensor, "b k draws"],
        position: Float[Tensor, "b k 2"],
        angle: Float[Tensor, "b k"],
        view: tuple[int, int],
    ) -> Boxes:
        """Return the boxes of uniform numbers in 0..1; of the draws, the first that fits is used."""
        view_size = constant((view[1], view[0]), area.device)
        upright = self._upright_size(area, ratio, view_size)
        center = upright / 2 + position * (view_size - upright)
        angle = (angle * 2 - 1) * math.radians(self.rotation)
        enclosing = _enclosing_size(upright, angle)
        cut_center, cut = cut_to_view(center, enclosing, angle, view_size)
        cut = _shrink_to_view(cut_center, cut, angle, view_size)  # rounding leaves corners just outside
        shrunk = _shrink_to_view(center, enclosing, angle, view_size)
        is_cut = (cut.prod(dim=-1) >= shrunk.prod(dim=-1) / 2)[..., None]
        return Boxes(torch.where(is_cut, cut_center, center), torch.where(is_cut, cut, shrunk), angle, view)

    def _upright_size(
        self,
        area: Float[Tensor, "b k draws"],
        ratio: Float[Tensor, "b k draws"],
        view_size: Float[Tensor, "2"],
    ) -> Float[Tensor, "b k 2"]:
        """Return width and height of the first draw that fits into the view, for each box."""
        area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * view_size.prod()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + ratio * (high - low))
        draws = torch.stack((torch.sqrt(area * ratio), torch.sqrt(area / ratio)), dim=-1)
        first = (draws <= view_size).all(dim=-1).int().argmax(dim=-1)
        chosen = draws.take_along_dim(first[..., None, None], dim=2).squeeze(2)
        return torch.minimum(chosen, view_size)


def _enclosing_size(size: Float[Tensor, "b k 2"], angle: Float[Tensor, "b k"]) -> Float[Tensor, "b k 2"]:
    """Return the size of the smallest box at `angle` that encloses an upright box, or the reverse."""
    cos, sin = angle.cos().abs()[..., None], angle.sin().abs()[..., None]
    return size * cos + size.flip(-1) * sin


def _shrink_to_view(center: Tensor, size: Tensor, angle: Tensor, view_size: Tensor) -> Tensor:
    """Return sizes shrunk about the centers until the boxes fit."""
    available = 2 * torch.minimum(center, view_size - center)
    return size * (available / _enclosing_size(size, angle)).amin(dim=-1, keepdim=True).clamp(max=1)
