"""Projection of the tokens of two encoders, one of which is the target, for token correlation."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Features
from cim_lightning.models.target import Target
from cim_lightning.models.token_correlation import TokenCorrelation, grid_tokens


class ProjectedTokens(NamedTuple):
    """Projected tokens of exemplars and contexts, in row-major order of their grids (rows, columns)."""

    exemplars: Float[Tensor, "b k n out"]
    contexts: Float[Tensor, "b m out"]
    exemplar_grid: tuple[int, int]
    context_grid: tuple[int, int]


class TokenLocator(nn.Module):
    """Token correlation with a projector for each encoder.

    Args:
        correlation: the loss, with the projector of the online encoder.
        target: builds the projector of the target encoder, see models/target.py.
    """

    def __init__(self, correlation: TokenCorrelation, target: Callable[[nn.Module], Target]):
        super().__init__()
        self.correlation = correlation
        self.target = target(correlation.projector)

    @property
    def target_pair(self) -> tuple[Target, nn.Module]:
        """The target's projector, and the online one."""
        return self.target, self.correlation.projector

    def forward(self, online: Features, target: Features, online_is_context: bool) -> ProjectedTokens:
        """Project features of b k exemplars and b contexts, one of which is of the online encoder."""
        projector = self.correlation.projector
        tokens = projector(grid_tokens(online)), self.target(projector, grid_tokens(target))
        grids = _grid(online), _grid(target)
        if online_is_context:
            tokens, grids = tokens[::-1], grids[::-1]
        exemplars, contexts = tokens
        return ProjectedTokens(exemplars.unflatten(0, (len(contexts), -1)), contexts, *grids)

    def metrics(self, tokens: ProjectedTokens, places: Float[Tensor, "b k n m"]) -> dict[str, Tensor]:
        """Return the loss and the accuracy, see `TokenCorrelation`."""
        pair = tokens.exemplars, tokens.contexts
        accuracy = self.correlation.accuracy(*pair, places)
        return {"tokens": self.correlation(*pair, places), "token_accuracy": accuracy}

    def maps(
        self, tokens: ProjectedTokens, size: tuple[int, int]
    ) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
        """Return the logits of maps of `size` (height, width), see `TokenCorrelation`."""
        return self.correlation.maps(tokens.exemplars, tokens.contexts, tokens.context_grid, size)


def _grid(features: Features) -> tuple[int, int]:
    return features.grid.shape[-2], features.grid.shape[-1]
