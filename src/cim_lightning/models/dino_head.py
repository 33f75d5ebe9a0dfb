"""DINO's head: an MLP to a narrow unit sphere, and scores against many unit prototypes there."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.errors import ConfigError


class DINOHead(nn.Module):
    """Three linear layers, a unit-length bottleneck, and cosines to prototypes (Caron et al., appendix C).

    Args:
        dim: width of the backbone's pooled features.
        hidden: width of the two hidden layers.
        bottleneck: width of the sphere.
        out: number of prototypes.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, out: int):
        super().__init__()
        for name, value in {"hidden": hidden, "bottleneck": bottleneck, "out": out}.items():
            if value < 1:
                raise ConfigError(f"method.head.{name}={value}: at least 1; try 1")
        widths = [nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, bottleneck)]
        for layer in widths:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(widths[0], nn.GELU(), widths[1], nn.GELU(), widths[2])
        self.prototypes = nn.Parameter(torch.empty(out, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n out"]:
        """Cosines, -1..1, to every prototype."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))
