"""Contrastive head of MoCo v3 (Chen, Xie, He, ICCV 2021); CIM's code has it too, published with weight 0."""

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
        hidden, out: widths of the MLPs.
        temperature: of the softmax; the loss is scaled by twice of it, as in MoCo v3.
        weight: factor of the loss, beside others.
    """

    def __init__(self, dim: int, hidden: int, out: int, temperature: float, weight: float):
        super().__init__()
        self.projector = _mlp(dim, hidden, hidden, out)
        self.predictor = _mlp(out, hidden, out)
        self.temperature, self.weight = temperature, weight

    def forward(self, online: Float[Tensor, "n d"], keys: Float[Tensor, "m out"]) -> Tensor:
        """Mean loss of n online features and m projected target features, image by image.

        Of n and m one is a multiple of the other: with k exemplars an image, its k rows stand together.
        Keys are gathered over devices, so every online vector meets the images of all. Where a target is
        trained (shared, separate), gradients reach it through the keys of its own device.
        """
        queries = F.normalize(self.predictor(self.projector(online)), dim=-1)
        keys = F.normalize(keys, dim=-1)
        if len(keys) > len(queries):  # several target rows an image: each is some online row's positive
            queries = queries.repeat_interleave(len(keys) // len(queries), dim=0)
        labels = torch.arange(len(keys), device=keys.device).repeat_interleave(len(queries) // len(keys))
        if torch.distributed.is_initialized() and self.training:  # all devices validate the same images
            rank = torch.distributed.get_rank()
            labels = labels + rank * len(keys)
            everywhere = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(everywhere, keys.detach())
            everywhere[rank] = keys
            keys = torch.cat(everywhere)
        logits = queries @ keys.T / self.temperature
        return self.weight * 2 * self.temperature * F.cross_entropy(logits, labels)


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (here, there) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        layers += [nn.Linear(here, there, bias=False), nn.BatchNorm1d(there, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)
