"""Features of whole images from a frozen backbone, and what can be said of them without labels."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.last_layers import LastLayers


class FeatureSet(NamedTuple):
    """Features of n images, in fp32 on the CPU."""

    pooled: Float[Tensor, "n d"]  # class token, or what the architecture pools
    mean: Float[Tensor, "n d"]  # mean over the grid
    labels: Int64[Tensor, " n"]  # -1 where there is none


@torch.no_grad()
def extract(
    backbone: Backbone | LastLayers,
    batches: Iterable[Any],
    prepare: Callable[[Tensor], Tensor],
    device: torch.device,
) -> FeatureSet:
    """Features of batches of (uint8 views, labels, ...); `prepare` normalizes images of 0..1.

    The backbone runs in evaluation mode and is left in the mode it came in, part by part.

    Raises:
        ConfigError: some are no finite numbers, of which k-NN would make an accuracy all the same.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    pooled, mean, labels = [], [], []
    for batch in batches:
        features = backbone(prepare(batch[0].to(device, non_blocking=True).float() / 255))
        pooled.append(features.pooled.float().cpu())
        mean.append(features.grid.float().mean(dim=(2, 3)).cpu())
        labels.append(batch[1])
    for module, training in modes:
        module.training = training
    found = FeatureSet(torch.cat(pooled), torch.cat(mean), torch.cat(labels))
    if not (found.pooled.isfinite().all() and found.mean.isfinite().all()):
        raise ConfigError(
            "optim.base_lr: the backbone's features are not finite, so its training has diverged; "
            "try a tenth of that rate"
        )
    return found


def spread(features: Float[Tensor, "n d"]) -> float:
    """Mean standard deviation of the coordinates of unit-length features; near 0 when they have collapsed."""
    return torch.nn.functional.normalize(features, dim=1).std(dim=0, correction=0).mean().item()


def effective_rank(features: Float[Tensor, "n d"]) -> float:
    """Exponential of the entropy of the normalized singular values of centered features, 1..d.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp().item()
