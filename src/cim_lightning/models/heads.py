"""Projection heads of MoCo v3 and DINO."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_above, check_at_least
from cim_lightning.metric_registry import Metric
from cim_lightning.models.gathered_keys import gather_keys

CONTRAST = Metric("contrast", "contrastive loss", higher_is_better=False)


class ContrastiveHead(nn.Module):
    """InfoNCE between online and target vectors of the same image, against the other images of the batch.

    Source: MoCo v3 (Chen, Xie, He, ICCV 2021). The released code of CIM has it with weight 0.

    Args:
        dim: width of the backbone's pooled features.
        hidden_dim, out_dim: widths of the MLPs.
        temperature: of the softmax. The loss is multiplied by twice the temperature, as in MoCo v3.
        weight: factor of the loss.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        temperature: float = 0.2,
        weight: float = 1.0,
    ):
        super().__init__()
        check_at_least("hidden_dim", hidden_dim, 1)
        check_at_least("out_dim", out_dim, 1)
        check_above("temperature", temperature, 0, suggest=0.2)
        check_at_least("weight", weight, 0)
        self.projector = _mlp(dim, hidden_dim, hidden_dim, out_dim)
        self.predictor = _mlp(out_dim, hidden_dim, out_dim)
        self.temperature, self.weight = temperature, weight

    def forward(self, online: Float[Tensor, "n d"], keys: Float[Tensor, "m out"]) -> Tensor:
        """Return the mean loss of n online features and m projected target features, in the same image order.

        One of n and m is a multiple of the other: an image with k exemplars has k consecutive rows. In
        training, the keys are gathered over all devices, and gradients reach a trained target.
        """
        queries = F.normalize(self.predictor(self.projector(online)), dim=-1)
        keys = F.normalize(keys, dim=-1)
        if len(keys) > len(queries):  # several target rows per image, each the positive of a query
            queries = queries.repeat_interleave(len(keys) // len(queries), dim=0)
        labels = torch.arange(len(keys), device=keys.device).repeat_interleave(len(queries) // len(keys))
        if self.training:  # in validation, the loss does not depend on the number of devices
            keys, first = gather_keys(keys)
            labels = labels + first
        logits = queries @ keys.T / self.temperature
        return self.weight * 2 * self.temperature * F.cross_entropy(logits, labels)


class DINOHead(nn.Module):
    """Three-layer MLP, L2 normalization, and cosines to the prototypes.

    Source: DINO (Caron et al., ICCV 2021), appendix C.

    Args:
        dim: width of the backbone's pooled features.
        hidden_dim: width of the two hidden layers.
        bottleneck_dim: width of the normalized output of the MLP.
        out_dim: number of prototypes.
    """

    def __init__(self, dim: int, hidden_dim: int = 2048, bottleneck_dim: int = 256, out_dim: int = 65536):
        super().__init__()
        check_at_least("hidden_dim", hidden_dim, 1)
        check_at_least("bottleneck_dim", bottleneck_dim, 1)
        check_at_least("out_dim", out_dim, 1)
        layers = [nn.Linear(*pair) for pair in pairwise((dim, hidden_dim, hidden_dim, bottleneck_dim))]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck_dim))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n out"]:
        """Return the cosines (-1..1) to all prototypes."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-2], nn.BatchNorm1d(widths[-1], affine=False))
