"""Soft places: where the patches of the exemplars are among the patches of the context."""

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.exemplars import Crops
from cim_lightning.errors import ConfigError


def exemplar_places(
    crops: Crops, exemplar_grid: tuple[int, int], context_grid: tuple[int, int]
) -> Float[Tensor, "b k n m"]:
    """Return where the patches of the exemplars are among the patches of their contexts, see `soft_places`.

    Args:
        exemplar_grid, context_grid: rows and columns of the patches.

    Raises:
        ConfigError: exemplars and contexts are of different frames.
    """
    if crops.other_frames is not None:
        rule = "their places are known only where exemplars and context are of the same frame"
        raise ConfigError("tokens", "correlation", rule, hint="try data.max_gap=0")
    return soft_places(crops.boxes.positions(exemplar_grid, crops.flipped), crops.boxes.view, context_grid)


def soft_places(
    positions: Float[Tensor, "b k n 2"], view: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "b k n m"]:
    """Return bilinear weights of the context's patches for each position.

    The mean of the patch centers, weighted by a row, is the position. A position between the border of the
    view and the nearest patch centers belongs to the patches at the border.

    Args:
        positions: (x, y) in view pixels, as `Boxes.positions` returns them.
        view: height and width of the views in pixels.
        grid: rows and columns of the context's patches; m = rows * columns.

    Returns:
        Weights in 0..1 in row-major order. Each row has at most four weights above 0, and their sum is 1.
    """
    x, y = positions.unbind(dim=-1)
    rows = _linear_weights(y, view[0], grid[0])
    columns = _linear_weights(x, view[1], grid[1])
    return (rows[..., :, None] * columns[..., None, :]).flatten(-2)


def _linear_weights(position: Float[Tensor, "b k n"], length: int, cells: int) -> Float[Tensor, "b k n m"]:
    """Return linear weights of cells along one axis of `length` pixels."""
    place = (position * (cells / length) - 0.5).clamp(0, cells - 1)
    distance = (place[..., None] - torch.arange(cells, device=position.device)).abs()
    return (1 - distance).clamp(min=0)
