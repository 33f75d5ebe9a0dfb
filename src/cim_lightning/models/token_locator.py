"""Projection of the tokens of two encoders, one of which is the target, for token correlation."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.models.target import Target
from cim_lightning.models.token_correlation import TokenCorrelation


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

    def forward(
        self, online: Float[Tensor, "n d h w"], target: Float[Tensor, "m d y x"], online_is_context: bool
    ) -> ProjectedTokens:
        """Project the feature maps of b k exemplars and b contexts.

        Args:
            online, target: of the online and of the target encoder. One has b k rows, the other b.
            online_is_context: whether the online encoder read the contexts.
        """
        projector = self.correlation.projector
        tokens = projector(_tokens(online)), self.target(projector, _tokens(target))
        grids = _size(online), _size(target)
        if online_is_context:
            tokens, grids = tokens[::-1], grids[::-1]
        exemplars, contexts = tokens
        return ProjectedTokens(exemplars.unflatten(0, (len(contexts), -1)), contexts, *grids)

    def metrics(self, tokens: ProjectedTokens, places: Float[Tensor, "b k n m"]) -> dict[str, Tensor]:
        """Return the loss, and in validation the accuracy, see `TokenCorrelation`."""
        pair = tokens.exemplars, tokens.contexts
        metrics = {"tokens": self.correlation(*pair, places)}
        if not self.training:
            metrics["token_accuracy"] = self.correlation.accuracy(*pair, places)
        return metrics

    def maps(
        self, tokens: ProjectedTokens, size: tuple[int, int]
    ) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
        """Return the logits of maps of `size` (height, width), see `TokenCorrelation`."""
        return self.correlation.maps(tokens.exemplars, tokens.contexts, tokens.context_grid, size)


def _tokens(grid: Float[Tensor, "n d h w"]) -> Float[Tensor, "n h*w d"]:
    """Return the tokens in row-major order."""
    return grid.flatten(2).transpose(1, 2)


def _size(grid: Float[Tensor, "n d h w"]) -> tuple[int, int]:
    return grid.shape[-2], grid.shape[-1]
