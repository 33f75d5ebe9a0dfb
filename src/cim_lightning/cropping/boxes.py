"""Rotated boxes: where in a view an exemplar is cut.

Coordinates are those of the view in pixels, x to the right and y down, with pixel centers at
half-integers, so a view of height h and width w covers [0, w] x [0, h]. A positive angle turns the
box's own x axis towards the view's y axis (clockwise on screen).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.errors import ConfigError

# A random-resized crop redraws area and ratio until the box fits; ten draws miss about once in 10^5
# boxes at the paper's settings, and a miss is cut to the view.
DRAWS = 10


@dataclass(frozen=True)
class Boxes:
    """k rotated boxes in each of b views, in view pixels and radians."""

    center: Float[Tensor, "b k 2"]
    size: Float[Tensor, "b k 2"]
    angle: Float[Tensor, "b k"]
    view: tuple[int, int]  # height and width of the view that they lie in

    def __getitem__(self, views: slice) -> "Boxes":
        """The boxes of some of the views."""
        return Boxes(self.center[views], self.size[views], self.angle[views], self.view)

    @property
    def axes(self) -> Float[Tensor, "b k 2 2"]:
        """Rotation whose columns are the box's own x and y axis in the view."""
        cos, sin = self.angle.cos(), self.angle.sin()
        return torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))

    @property
    def corners(self) -> Float[Tensor, "b k 4 2"]:
        """Top left, top right, bottom right, bottom left, in the box's own frame."""
        signs = self.center.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
        local = signs * self.size[:, :, None]
        return self.center[:, :, None] + torch.einsum("bkij,bknj->bkni", self.axes, local)

    @property
    def area(self) -> Float[Tensor, "b k"]:
        """Share of the view that each box covers, in 0..1."""
        height, width = self.view
        return self.size.prod(dim=-1) / (height * width)

    def cover(self, height: int, width: int) -> Bool[Tensor, "b k {height} {width}"]:
        """Which pixels of a raster laid over the view have their center inside each box, edges included."""
        device = self.center.device
        y = (torch.arange(height, device=device) + 0.5) * (self.view[0] / height) - self.center[..., 1, None]
        x = (torch.arange(width, device=device) + 0.5) * (self.view[1] / width) - self.center[..., 0, None]
        cos, sin = self.angle.cos()[..., None], self.angle.sin()[..., None]
        # Coordinates in the box's frame are sums of a term a column and a term a row.
        across = ((cos * x)[..., None, :] + (sin * y)[..., None]).abs() <= self.size[..., 0, None, None] / 2
        along = ((cos * y)[..., None] - (sin * x)[..., None, :]).abs() <= self.size[..., 1, None, None] / 2
        return across & along


class BoxSampler:
    """Draws boxes as the paper does (section 3.1; the README compares distributions), always inside the view.

    An upright box gets a share of the view's area, a log-uniform aspect ratio and a uniform place. Turned
    by a uniform angle, it grows to the rectangle of that angle which encloses it. Where that sticks out of
    the view, its center moves half-way to the nearest place where it would not, then it shrinks about
    its center until it is inside: half-way is what keeps the covered area of the published sampler.

    Args:
        scale: smallest and largest share of the view's area before turning, 0 < low <= high <= 1.
        ratio: smallest and largest width / height, 0 < low <= high <= 100.
        rotation: largest angle in degrees, 0..180; angles are uniform in -rotation..rotation.

    Raises:
        ConfigError: a range is empty or outside its limits.
    """

    def __init__(self, scale: Sequence[float], ratio: Sequence[float], rotation: float):
        self.scale = _checked("cropping.scale", scale, 1.0)
        self.ratio = _checked("cropping.ratio", ratio, 100.0)
        if not 0 <= rotation <= 180:
            nearest = min(max(rotation, 0), 180)
            raise ConfigError(
                f"cropping.rotation={rotation}: the largest angle is 0..180 degrees; try {nearest}"
            )
        self.rotation = math.radians(rotation)

    def sample(self, b: int, k: int, view: tuple[int, int], generator: torch.Generator) -> Boxes:
        """Draws k boxes for each of b views of (height, width) pixels, on the generator's device."""
        device = generator.device
        limits = torch.tensor([view[1], view[0]], dtype=torch.float32, device=device)
        upright = self._upright(b, k, limits, generator)
        center = upright / 2 + torch.rand(b, k, 2, generator=generator, device=device) * (limits - upright)
        angle = (torch.rand(b, k, generator=generator, device=device) * 2 - 1) * self.rotation
        size = _turned(upright, angle)
        center, size = _inside(center, size, angle, limits)
        return Boxes(center, size, angle, view)

    def _upright(
        self, b: int, k: int, limits: Float[Tensor, "2"], generator: torch.Generator
    ) -> Float[Tensor, "b k 2"]:
        """Width and height of upright boxes: the first of several draws that fits into the view."""
        share, ratio = torch.rand(2, b, k, DRAWS, generator=generator, device=limits.device)
        area = (self.scale[0] + share * (self.scale[1] - self.scale[0])) * limits.prod()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + ratio * (high - low))
        draws = torch.stack((torch.sqrt(area * ratio), torch.sqrt(area / ratio)), dim=-1)
        first = (draws <= limits).all(dim=-1).int().argmax(dim=-1)
        chosen = draws.take_along_dim(first[..., None, None], dim=2).squeeze(2)
        return torch.minimum(chosen, limits)


def _turned(size: Float[Tensor, "b k 2"], angle: Float[Tensor, "b k"]) -> Float[Tensor, "b k 2"]:
    """Smallest box at `angle` that encloses an upright one; also the reverse, by symmetry."""
    cos, sin = angle.cos().abs()[..., None], angle.sin().abs()[..., None]
    return size * cos + size.flip(-1) * sin


def _inside(
    center: Float[Tensor, "b k 2"],
    size: Float[Tensor, "b k 2"],
    angle: Float[Tensor, "b k"],
    limits: Float[Tensor, "2"],
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k 2"]]:
    """Moves boxes half-way to where they would fit, then shrinks them about their centers until they do."""
    extent = _turned(size, angle)
    reach = torch.minimum(extent, limits) / 2
    center = (center + torch.minimum(torch.maximum(center, reach), limits - reach)) / 2
    room = 2 * torch.minimum(center, limits - center)
    fit = (room / extent).amin(dim=-1, keepdim=True).clamp(max=1)
    return center, size * fit


def _checked(setting: str, value: Sequence[float], largest: float) -> tuple[float, float]:
    low, high = value if len(value) == 2 else (math.nan, math.nan)
    if not 0 < low <= high <= largest:
        inside = sorted(min(max(v, 0.01), largest) for v in value)[:: max(len(value) - 1, 1)] or [0.1]
        raise ConfigError(
            f"{setting}={list(value)}: two numbers with 0 < low <= high <= {largest:g}; "
            f"try [{inside[0]}, {inside[-1]}]"
        )
    return float(low), float(high)
