"""Token correlation: each token of an exemplar is located among the tokens of the contexts."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cim_lightning.checks import check_above, check_at_least
from cim_lightning.metric_registry import PLOT, PRETEXT, TABLE, Metric
from cim_lightning.models.gathered_keys import gather_keys
from cim_lightning.models.initialization import init_xavier
from cim_lightning.models.token_maps import token_maps

TOKEN_METRICS = (
    Metric("tokens", "token loss", PRETEXT, (PLOT,), False, splits=("train", "val")),
    Metric("token_accuracy", "token accuracy", PRETEXT, (TABLE, PLOT), True, validation_only=True),
)
# Similarities that are in memory at the same time, 256 MiB in fp32. If there are more, they are computed in
# chunks, and once more in the backward pass. 256 images with the paper's sizes have 6 * 10^8 of them.
MAX_SIMILARITIES = 2**26


class TokenCorrelation(nn.Module):
    """Cross-entropy between the places of exemplar tokens and a softmax over all context tokens of the batch.

    The caller projects both kinds of tokens, those of the target encoder by a copy of `projector`, see
    models/target.py. The places are known from the boxes, see cropping/places.py.

    Args:
        dim: width of the backbone's features.
        hidden_dim, out_dim: widths of the projector, an MLP with one hidden layer.
        temperature: of the softmax over cosine similarities.
        weight: factor of the loss.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 512,
        out_dim: int = 64,
        temperature: float = 0.1,
        weight: float = 1.0,
    ):
        super().__init__()
        check_at_least("hidden_dim", hidden_dim, 1)
        check_at_least("out_dim", out_dim, 1)
        check_above("temperature", temperature, 0, suggest=0.1)
        check_above("weight", weight, 0, suggest=1)
        self.projector = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))
        self.projector.apply(init_xavier)
        self.temperature, self.weight = temperature, weight

    def forward(
        self,
        queries: Float[Tensor, "b k n out"],
        keys: Float[Tensor, "b m out"],
        places: Float[Tensor, "b k n m"],
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the b k n exemplar tokens, in nats.

        In training, the keys are gathered over all devices, and gradients reach all of them. In validation,
        the loss does not depend on the number of devices.

        Args:
            queries: projected exemplar tokens, of any length.
            keys: projected context tokens of the same images, of any length.
            places: where each exemplar token is among the m tokens of its own context; each row sums to 1.
        """
        at_place = (self._similarity(queries, keys) * places).sum(dim=-1).flatten()
        queries, keys = F.normalize(queries.flatten(0, 2), dim=-1), F.normalize(keys.flatten(0, 1), dim=-1)
        if self.training:
            keys, _ = gather_keys(keys)
        return self.weight * (self._log_normalizer(queries, keys) - at_place).mean()

    @torch.no_grad()
    def accuracy(
        self,
        queries: Float[Tensor, "b k n out"],
        keys: Float[Tensor, "b m out"],
        places: Float[Tensor, "b k n m"],
    ) -> Float[Tensor, ""]:
        """Return the share of exemplar tokens that are most similar to a patch of their place.

        The place of a token has up to four patches. Only the patches of the token's own context compete, so
        that the number does not depend on the size of the batch.
        """
        found = self._similarity(queries, keys).argmax(dim=-1, keepdim=True)
        return (places.gather(-1, found) > 0).float().mean()

    def maps(
        self,
        queries: Float[Tensor, "b k n out"],
        keys: Float[Tensor, "b m out"],
        grid: tuple[int, int],
        size: tuple[int, int],
    ) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
        """Return the logits of maps that show where the tokens of each exemplar are, see `token_maps`.

        The probabilities of a token are a softmax over the patches of its own context.

        Args:
            queries, keys: as in `forward`.
            grid: rows and columns of the context's patches; m = rows * columns.
            size: height and width of the maps in pixels.
        """
        return token_maps(self._similarity(queries, keys).softmax(dim=-1), grid, size)

    def _similarity(
        self, queries: Float[Tensor, "b k n out"], keys: Float[Tensor, "b m out"]
    ) -> Float[Tensor, "b k n m"]:
        """Return the similarities to the tokens of the own context, divided by the temperature."""
        queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
        return (queries @ keys[:, None].transpose(-2, -1)).float() / self.temperature

    def _log_normalizer(
        self, queries: Float[Tensor, "q out"], keys: Float[Tensor, "m out"]
    ) -> Float[Tensor, " q"]:
        """Return the logarithm of the softmax's denominator for each query."""
        chunks = math.ceil(len(queries) * len(keys) / MAX_SIMILARITIES)
        if chunks <= 1:
            return self._logsumexp(queries, keys)
        parts = [
            checkpoint(self._logsumexp, part, keys, use_reentrant=False, preserve_rng_state=False)
            for part in queries.chunk(chunks)
        ]
        return torch.cat(parts)

    def _logsumexp(
        self, queries: Float[Tensor, "q out"], keys: Float[Tensor, "m out"]
    ) -> Float[Tensor, " q"]:
        return ((queries @ keys.T).float() / self.temperature).logsumexp(dim=-1)
