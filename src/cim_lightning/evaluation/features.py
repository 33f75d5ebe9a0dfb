"""Features of a frozen backbone, and collapse metrics that need no labels."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.last_layers import LastLayers

Vectors = Float[Tensor, "n d"]
Labels = Int64[Tensor, " n"]  # -1: no label


class FeatureSet(NamedTuple):
    """Features of n images, in fp32 on the CPU."""

    pooled: Vectors  # class token, or the architecture's own pooling
    mean: Vectors  # mean over the grid
    labels: Labels


@torch.no_grad()
def extract(
    backbone: Backbone | LastLayers,
    batches: Iterable[Any],
    normalize: Callable[[Tensor], Tensor],
    device: torch.device,
) -> FeatureSet:
    """Return the features in evaluation mode. Raise ConfigError if a feature is not finite.

    Every module is restored to its previous mode.

    Args:
        batches: of (uint8 views, labels, ...).
        normalize: maps images in 0..1 to the backbone's input.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    pooled, mean, labels = [], [], []
    for batch in batches:
        features = backbone(normalize(batch[0].to(device, non_blocking=True).float() / 255))
        pooled.append(features.pooled.float().cpu())
        mean.append(features.grid.float().mean(dim=(2, 3)).cpu())
        labels.append(batch[1])
    for module, training in modes:
        module.training = training
    features = FeatureSet(torch.cat(pooled), torch.cat(mean), torch.cat(labels))
    if not (features.pooled.isfinite().all() and features.mean.isfinite().all()):  # k-NN would not notice
        raise ConfigError(
            "the backbone's features are not finite: training has diverged, or the weights are damaged; "
            "try a lower learning rate, or another checkpoint"
        )
    return features


def spread(features: Vectors) -> float:
    """Return the mean standard deviation of the coordinates of unit-length features; 0 is full collapse."""
    return torch.nn.functional.normalize(features, dim=1).std(dim=0, correction=0).mean().item()


def effective_rank(features: Vectors) -> float:
    """Return exp(entropy of the normalized singular values of centered features), 1..d.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp().item()
