"""Labeled features that are standardized when they are read, for linear classifiers."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.evaluation.features import Vectors

CHUNK = 2**14  # features per chunk: 50 MB in fp32 for d = 768


@dataclass(frozen=True)
class StandardizedFeatures:
    """Features of mean 0 and deviation 1, read in batches; no copy of all features in fp32 exists."""

    features: Vectors  # as extracted, in fp16 or fp32
    labels: Tensor  # classes "n", or shares of the classes "n c"
    mean: Float[Tensor, " d"]
    deviation: Float[Tensor, " d"]

    def __len__(self) -> int:
        return len(self.features)

    def read(self, rows: Int64[Tensor, " b"] | slice) -> Float[Tensor, "b d1"]:
        """Return standardized features in fp32 with a last coordinate of 1, whose weight is the bias."""
        x = (self.features[rows].float() - self.mean) / self.deviation
        return torch.cat((x, x.new_ones(len(x), 1)), dim=1)

    def like(self, features: Float[Tensor, "m d"], labels: Tensor) -> "StandardizedFeatures":
        """Return other features with the same mean and deviation, on the same device."""
        device = self.mean.device
        return replace(self, features=features.to(device), labels=labels.to(device))


def standardize(features: Vectors, labels: Tensor) -> StandardizedFeatures:
    """Standardize features by their own mean and deviation, which are computed in chunks."""
    chunks = features.split(CHUNK)
    parts = [torch.var_mean(chunk.float(), dim=0, correction=0) for chunk in chunks]
    variances, means = (torch.stack(values).cpu().double() for values in zip(*parts, strict=True))
    shares = torch.tensor([len(chunk) / len(features) for chunk in chunks], dtype=torch.float64)
    mean = shares @ means
    deviation = (shares @ (variances + (means - mean).square())).sqrt().clamp(min=1e-6)
    return StandardizedFeatures(features, labels, *(x.float().to(features.device) for x in (mean, deviation)))


@torch.no_grad()
def accuracies(
    weights: Float[Tensor, "r d1 c"], data: StandardizedFeatures, rows: Int64[Tensor, " m"] | None = None
) -> Float[Tensor, " r"]:
    """Return the accuracy of linear classifiers in %, on all features or on some rows."""
    rows = torch.arange(len(data), device=data.mean.device) if rows is None else rows
    correct = weights.new_zeros(len(weights), dtype=torch.int64)
    for chunk in rows.split(CHUNK):
        x, labels = data.read(chunk), data.labels[chunk]
        for i, classifier in enumerate(weights):  # one at a time, as the logits of 1000 classes are large
            correct[i] += ((x @ classifier).argmax(dim=-1) == labels).sum()
    return 100 * correct / len(rows)
