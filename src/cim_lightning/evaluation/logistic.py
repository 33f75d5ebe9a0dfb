"""Logistic regression on frozen features, as a classifier of images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.linear import with_one
from cim_lightning.evaluation.robustness.attacks import Classifier
from cim_lightning.models.backbone import Backbone


class LinearClassifier(nn.Module):
    """Images of 0..1 to logits: a frozen backbone's pooled features through one linear layer."""

    def __init__(self, backbone: Backbone, normalize: Callable[[Tensor], Tensor], head: nn.Linear):
        super().__init__()
        self.backbone, self.normalize, self.head = backbone, normalize, head

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.head(self.backbone(self.normalize(images)).pooled.float())


class LogisticRegression:
    """Fits a classifier to a context's training images.

    Args:
        num_train: images to fit to; null: all.
        weight_decay: of the squared weights on standardized features, 0 or more.
        steps: of L-BFGS, 1 or more.

    Raises:
        ConfigError: a setting is outside its limits; when called, the training images have fewer than two
            classes.
    """

    def __init__(self, num_train: int | None, weight_decay: float, steps: int):
        if weight_decay < 0:
            raise ConfigError(f"classifier.weight_decay={weight_decay}: 0 or more; try 0")
        if steps < 1:
            raise ConfigError(f"classifier.steps={steps}: at least 1; try 1")
        self.num_train, self.weight_decay, self.steps = num_train, weight_decay, steps

    def __call__(self, context: EvalContext) -> Classifier:
        found = context.features("train", self.num_train)
        labeled = found.labels >= 0
        features, labels = found.pooled[labeled], found.labels[labeled]
        if len(labels.unique()) < 2:
            raise ConfigError(
                f"data: robustness needs a classifier, and so images of two classes or more, not "
                f"{len(labels.unique())}; try data.root=<a folder of class folders>"
            )
        classes = max(len(context.data.splits.train.classes or []), int(labels.max()) + 1)
        x, y = features.to(context.device), labels.to(context.device)
        head = fit(x, y, classes, self.weight_decay, self.steps)
        return LinearClassifier(context.backbone, context.normalize, head).eval()


def fit(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    classes: int,
    weight_decay: float,
    steps: int,
) -> nn.Linear:
    """The layer of least cross-entropy plus weight_decay / 2 times the squared standardized weights."""
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    scale = 1 / deviation.clamp(min=1e-6)
    weights = regression((features - mean) * scale, labels, classes, weight_decay, steps)
    head = nn.Linear(features.shape[1], classes, device=features.device).requires_grad_(False)
    head.weight.copy_(weights[:-1].T * scale)  # so that it reads features as they come
    head.bias.copy_(weights[-1] - head.weight @ mean)
    return head


def regression(
    x: Float[Tensor, "n d"], y: Int64[Tensor, " n"], classes: int, penalty: float, steps: int
) -> Float[Tensor, "d1 c"]:
    """Weights of L2-regularized logistic regression, the bias, which is not penalized, in the last row."""
    x = with_one(x)
    weights = x.new_zeros(x.shape[1], classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weights, y) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)  # pyright: ignore
    return weights.detach()
