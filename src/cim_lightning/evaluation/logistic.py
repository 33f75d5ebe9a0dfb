"""Logistic regression on frozen features, as a classifier of images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_at_least
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import Classifier, EvalContext
from cim_lightning.evaluation.features import Labels, Vectors
from cim_lightning.evaluation.linear import append_ones


@dataclass
class LogisticRegression:
    """Fit a classifier to the pooled features of the labeled training images."""

    num_train: int | None  # maximum number of images; None: all
    weight_decay: float  # weight of the L2 penalty on standardized features
    steps: int  # maximum number of L-BFGS steps

    def __post_init__(self) -> None:
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("steps", self.steps, 1)

    def __call__(self, context: EvalContext) -> Classifier:
        train = context.labeled_features("train", self.num_train)
        if len(train.labels.unique()) < 2:
            raise ConfigError("a classifier needs labels of two or more classes; use one folder per class")
        classes = max(len(context.data.splits.train.classes or []), int(train.labels.max()) + 1)
        x, y = train.pooled.to(context.device), train.labels.to(context.device)
        head = fit_head(x, y, classes, self.weight_decay, self.steps)
        return lambda images: head(context.backbone(context.backbone.normalize(images)).pooled.float())


def fit_head(features: Vectors, labels: Labels, classes: int, weight_decay: float, steps: int) -> nn.Linear:
    """Fit a logistic regression on standardized features; return a linear layer for the raw features."""
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    scale = 1 / deviation.clamp(min=1e-6)
    weights = fit_weights((features - mean) * scale, labels, classes, weight_decay, steps)
    head = nn.Linear(features.shape[1], classes, device=features.device).requires_grad_(False)
    head.weight.copy_(weights[:-1].T * scale)
    head.bias.copy_(weights[-1] - head.weight @ mean)
    return head


def fit_weights(x: Vectors, y: Labels, classes: int, penalty: float, steps: int) -> Float[Tensor, "d1 c"]:
    """Minimize the cross-entropy plus penalty / 2 times the squared norm of the weights by L-BFGS.

    The last row of the weights is the bias, which has no penalty.
    """
    x = append_ones(x)
    weights = x.new_zeros(x.shape[1], classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weights, y) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore
    return weights.detach()
