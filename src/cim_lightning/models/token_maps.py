"""Correlation maps from token similarities, for metrics and pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.models.autocast import autocast_device

MIN_WIDTH = 0.5  # patches; a narrower kernel would show the single patches of the context


def token_maps(
    probabilities: Float[Tensor, "b k n m"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
    """Return the logits of maps that show where the tokens of each exemplar are in its context.

    A map is the sum of the tokens' probabilities, smoothed by Gaussians along both axes and divided by its
    maximum. A logit is above 0 where this is above a half. The standard deviation of a Gaussian is half the
    distance of neighboring tokens: the probabilities of tokens that cover a box evenly become the box.

    Args:
        probabilities: that a token of the exemplar is in a patch of its context; their sum over m is 1.
        grid: rows and columns of the context's patches; m = rows * columns.
        size: height and width of the maps in pixels.
    """
    with torch.autocast(autocast_device(probabilities), enabled=False):  # bf16 has no logit of a share near 1
        weights = probabilities.sum(dim=2).unflatten(-1, grid)
        for axis in (0, 1):
            centers = torch.arange(grid[axis], device=weights.device) + 0.5
            shares = probabilities.unflatten(-1, grid).sum(dim=-1 if axis == 0 else -2)
            # A row of c tokens at distance d has the variance c^2 d^2 / 12; c^2 is the number of tokens.
            variance = (shares @ centers).var(dim=-1, correction=0)
            width = (3 * variance / probabilities.shape[2]).sqrt().clamp(min=MIN_WIDTH)
            pixels = (torch.arange(size[axis], device=weights.device) + 0.5) * (grid[axis] / size[axis])
            distance = (pixels[:, None] - centers) / width[..., None, None]
            kernel = torch.exp(-distance.square() / 2)  # "b k pixels cells"
            weights = kernel @ weights if axis == 0 else weights @ kernel.transpose(-1, -2)
    return torch.logit(weights / weights.amax(dim=(-2, -1), keepdim=True), eps=1e-6)
