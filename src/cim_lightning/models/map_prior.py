"""The prior of a correlation decoder: the map that it predicts before training."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MapPrior(nn.Module):
    """A fixed logit per position, which is added to the predicted logits.

    Args:
        logits: of the prior, at any resolution; see `mean_map_logits` for those of the mean map.
        head: the last linear layer of the decoder, which is set to zero: the decoder starts at the prior.
    """

    logits: Float[Tensor, "h w"]

    def __init__(self, logits: Float[Tensor, "h w"], head: nn.Linear):
        super().__init__()
        self.register_buffer("logits", logits.clone())
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)

    def forward(self, logits: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
        size = (logits.shape[-2], logits.shape[-1])
        return logits + F.interpolate(self.logits[None, None], size, mode="bilinear", align_corners=False)
