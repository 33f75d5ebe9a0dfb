"""Contrastive head of MoCo v3 (Chen, Xie, He, ICCV 2021); the released code of CIM has it with weight 0."""

from itertools import pairwise

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ContrastiveHead(nn.Module):
    """InfoNCE between online and target vectors of the same image, against the other images of the batch.

    Args:
        dim: width of the backbone's pooled features.
        hidden_dim, out_dim: widths of the MLPs.
        temperature: of the softmax. The loss is multiplied by twice the temperature, as in MoCo v3.
        weight: factor of the loss.
    """

    def __init__(self, dim: int, hidden_dim: int, out_dim: int, temperature: float, weight: float):
        super().__init__()
        self.projector = _mlp(dim, hidden_dim, hidden_dim, out_dim)
        self.predictor = _mlp(out_dim, hidden_dim, out_dim)
        self.temperature, self.weight = temperature, weight

    def forward(self, online: Float[Tensor, "n d"], keys: Float[Tensor, "m out"]) -> Tensor:
        """Return the mean loss of n online features and m projected target features, in the same image order.

        One of n and m is a multiple of the other: an image with k exemplars has k consecutive rows. Keys are
        gathered over all devices. Gradients reach a trained target (shared, separate) through the keys of its
        own device.
        """
        queries = F.normalize(self.predictor(self.projector(online)), dim=-1)
        keys = F.normalize(keys, dim=-1)
        if len(keys) > len(queries):  # several target rows per image, each the positive of a query
            queries = queries.repeat_interleave(len(keys) // len(queries), dim=0)
        labels = torch.arange(len(keys), device=keys.device).repeat_interleave(len(queries) // len(keys))
        if (
            torch.distributed.is_initialized() and self.training
        ):  # in validation, all devices have the same images
            rank = torch.distributed.get_rank()
            labels = labels + rank * len(keys)
            gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(gathered, keys.detach())
            gathered[rank] = keys
            keys = torch.cat(gathered)
        logits = queries @ keys.T / self.temperature
        return self.weight * 2 * self.temperature * F.cross_entropy(logits, labels)


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)
