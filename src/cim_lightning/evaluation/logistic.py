"""Logistic regression on frozen features, as a classifier of images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_at_least, check_one_of
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import Classifier, EvalContext
from cim_lightning.evaluation.features import Vectors
from cim_lightning.evaluation.standardized import CHUNK, StandardizedFeatures, standardize
from cim_lightning.models.backbone import FEATURES


@dataclass
class LogisticRegression:
    """Fit a classifier to the features of the labeled training images."""

    features: str  # "mean" or "pooled", see FeatureSet
    num_train: int | None  # maximum number of images; None: all
    weight_decay: float  # weight of the L2 penalty on standardized features
    steps: int  # maximum number of L-BFGS steps

    def __post_init__(self) -> None:
        check_one_of("features", self.features, FEATURES)
        check_at_least("num_train", self.num_train, 2)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("steps", self.steps, 1)

    def forward_passes(self, context: EvalContext) -> float:
        """Return the forward passes of the features."""
        return context.num_images("train", self.num_train)

    def __call__(self, context: EvalContext) -> Classifier:
        train = context.labeled_features("train", self.num_train)
        if len(train.labels.unique()) < 2:
            raise ConfigError("a classifier needs labels of two or more classes; use one folder per class")
        classes = max(len(context.data.splits.train.classes or []), int(train.labels.max()) + 1)
        x, y = train.get(self.features).to(context.device), train.labels.to(context.device)
        head, backbone = fit_head(x, y, classes, self.weight_decay, self.steps), context.backbone
        return lambda images: head(backbone(backbone.normalize(images)).get(self.features).float())


def fit_head(features: Vectors, labels: Tensor, classes: int, weight_decay: float, steps: int) -> nn.Linear:
    """Fit a logistic regression on standardized features; return a linear layer for the raw features.

    Args:
        labels: classes "n", or shares of the classes "n c".
    """
    data = standardize(features, labels)
    weights = fit_weights(data, classes, weight_decay, steps)
    head = nn.Linear(len(data.mean), classes, device=data.mean.device).requires_grad_(False)
    head.weight.copy_(weights[:-1].T / data.deviation)
    head.bias.copy_(weights[-1] - head.weight @ data.mean)
    return head


def fit_weights(
    data: StandardizedFeatures, classes: int, penalty: float, steps: int
) -> Float[Tensor, "d1 c"]:
    """Minimize the cross-entropy plus penalty / 2 times the squared norm of the weights by L-BFGS.

    The last row of the weights is the bias, which has no penalty.
    """
    weights = torch.zeros(len(data.mean) + 1, classes, device=data.mean.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        for start in range(0, len(data), CHUNK):  # the logits of all features may not fit into memory
            rows = slice(start, start + CHUNK)
            part = F.cross_entropy(data.read(rows) @ weights, data.labels[rows], reduction="sum") / len(data)
            part.backward()
            loss = loss + part
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore
    return weights.detach()
