"""Projection head of DINO (Caron et al., ICCV 2021, appendix C)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.bounds import at_least


class DINOHead(nn.Module):
    """Three-layer MLP, L2 normalization, and cosines to the prototypes.

    Args:
        dim: width of the backbone's pooled features.
        hidden_dim: width of the two hidden layers.
        bottleneck_dim: width of the normalized output of the MLP.
        out_dim: number of prototypes.
    """

    def __init__(self, dim: int, hidden_dim: int, bottleneck_dim: int, out_dim: int):
        super().__init__()
        at_least("hidden_dim", hidden_dim, 1)
        at_least("bottleneck_dim", bottleneck_dim, 1)
        at_least("out_dim", out_dim, 1)
        widths = (dim, hidden_dim, hidden_dim, bottleneck_dim)
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck_dim))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n out"]:
        """Return the cosines (-1..1) to all prototypes."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))
