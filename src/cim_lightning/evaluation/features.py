"""Features of a frozen backbone, and collapse metrics that need no labels."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from cim_lightning.cropping.views import to_unit_range
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.distributed import BatchRows, gather_batches
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.last_layers import LastLayers

TITLES = {"mean": "mean over the grid", "pooled": "pooled (class token of a ViT)"}  # of the FEATURES
STORED = torch.float16  # 2 GB for the 1.28 million images of ImageNet and d = 768

Vectors = Float[Tensor, "n d"]
Labels = Int64[Tensor, " n"]  # -1: no label


class NonfiniteFeaturesError(ConfigError):
    """Features that are not finite, or exceed the range of fp16."""

    def __init__(self) -> None:
        limit = torch.finfo(STORED).max
        super().__init__(
            f"the backbone's features are not finite, or exceed {limit:g}: training has diverged, or the "
            "weights are damaged; try a lower learning rate, or another checkpoint"
        )


class FeatureSet(NamedTuple):
    """Features of n images, in fp16 on the CPU."""

    pooled: Vectors  # class token, or the architecture's own pooling
    mean: Vectors  # mean over the grid
    labels: Labels

    def get(self, features: str) -> Vectors:
        """Return the features named "mean" or "pooled"."""
        return self.mean if features == "mean" else self.pooled


@torch.no_grad()
def extract(
    backbone: Backbone, batches: Iterable[Any], device: torch.device, num_images: int, layers: int = 1
) -> FeatureSet:
    """Return the features in evaluation mode, of the batches of all processes.

    Every module is restored to its previous mode. The memory of the features is allocated once.

    Args:
        batches: of this process (see gather_batches), as (views, labels, ...).
        num_images: maximum number of images in all batches.
        layers: above 1: means over that many last layers (see LastLayers).

    Raises:
        NonfiniteFeaturesError: a feature is not finite, or exceeds the range of fp16.
    """
    model = backbone if layers == 1 else LastLayers(backbone, layers)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    pooled, mean = (BatchRows(num_images, STORED) for _ in range(2))
    labels = BatchRows(num_images)
    for batch in batches:
        images = to_unit_range(batch[0].to(device, non_blocking=True))
        features = model(backbone.normalize(images))
        pooled.append(features.get("pooled"))
        mean.append(features.get("mean"))
        labels.append(batch[1])
    for module, training in modes:
        module.training = training
    features = FeatureSet(*(gather_batches(parts, device) for parts in (pooled, mean, labels)))
    if not (_all_finite(features.pooled) and _all_finite(features.mean)):  # k-NN would not notice
        raise NonfiniteFeaturesError()
    return features


def _all_finite(features: Vectors) -> bool:
    """Check chunks, since the check of all features at once needs as much memory as they do."""
    return all(bool(chunk.isfinite().all()) for chunk in features.split(2**16))


def spread(features: Vectors) -> float:
    """Return the mean standard deviation of the coordinates of unit-length features; 0 is full collapse."""
    return normalize(features.float(), dim=1).std(dim=0, correction=0).mean().item()


def effective_rank(features: Vectors) -> float:
    """Return exp(entropy of the normalized singular values of centered features), 1..d.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    features = features.float()
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp().item()
