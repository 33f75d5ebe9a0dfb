"""Linear probe: a classifier on frozen features, trained with several learning rates in parallel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import trange

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet, Labels, Vectors


@dataclass
class LinearProbe:
    """Accuracy of a linear classifier on standardized features.

    A share of the training images is held out to choose the learning rate. The final classifier is trained on
    all training images with that rate, and is the only one that is evaluated on the validation images. All
    classifiers are trained by SGD with momentum 0.9 and a cosine schedule to zero.
    """

    lrs: list[float]  # learning rates to choose from
    epochs: int
    batch_size: int
    weight_decay: float
    val_fraction: float  # share of the training images that is held out, above 0 and below 1
    layers: int  # above 1: a second probe uses the mean of the features after that many last layers
    num_train: int | None  # maximum number of images to train on; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        if not self.lrs or min(self.lrs) <= 0:
            raise ConfigError("lrs", self.lrs, "must be one or more numbers above 0", suggest=[0.1])
        check_share("val_fraction", self.val_fraction, zero=False, one=False)
        check_at_least("weight_decay", self.weight_decay, 0)
        for name in ("epochs", "batch_size", "layers"):
            check_at_least(name, getattr(self, name), 1)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return accuracies in 0..1 on "mean" and "pooled" features, each with "_lr" and "_val_accuracy"."""
        metrics = {}
        for layers in sorted({1, self.layers}):
            train = context.labeled_features("train", self.num_train, layers)
            val = context.labeled_features("val", self.num_val, layers)
            for kind in ("mean", "pooled"):
                name = kind if layers == 1 else f"{kind}_last_{layers}"
                accuracy, lr, val_accuracy = self.probe(train, val, kind, context.device, context.seed)
                metrics |= {name: accuracy, f"{name}_lr": lr, f"{name}_val_accuracy": val_accuracy}
        return metrics

    def probe(
        self, train: FeatureSet, val: FeatureSet, kind: str, device: torch.device, seed: int
    ) -> tuple[float, float, float]:
        """Return the accuracy on `val`, the learning rate, and its accuracy on the held-out images."""
        generator = torch.Generator().manual_seed(seed)
        x, val_x = (part.to(device) for part in standardized(getattr(train, kind), getattr(val, kind)))
        y, val_y = train.labels.to(device), val.labels.to(device)
        order = torch.randperm(len(y), generator=generator).to(device)
        count = min(max(round(self.val_fraction * len(y)), 1), len(y) - 1)
        held_out, rest = order[:count], order[count:]
        classes = int(max(y.max(), val_y.max())) + 1
        candidates = self.fit(x[rest], y[rest], classes, self.lrs, generator)
        held_out_accuracies = accuracies(candidates, x[held_out], y[held_out])
        best = int(held_out_accuracies.argmax())
        final = self.fit(x, y, classes, [self.lrs[best]], generator)
        return accuracies(final, val_x, val_y).item(), self.lrs[best], held_out_accuracies[best].item()

    def fit(
        self, x: Vectors, y: Labels, classes: int, lrs: Sequence[float], generator: torch.Generator
    ) -> Float[Tensor, "r d1 c"]:
        """Train one classifier per learning rate on the same batches; the last row of weights is the bias."""
        x = append_ones(x)
        weights = [x.new_zeros(x.shape[1], classes, requires_grad=True) for _ in lrs]
        groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, lrs, strict=True)]
        optimizer = SGD(groups, momentum=0.9, weight_decay=self.weight_decay)
        schedule = CosineAnnealingLR(optimizer, self.epochs * math.ceil(len(x) / self.batch_size))
        for _ in trange(self.epochs, desc="linear probe", leave=False, disable=None):
            for batch in torch.randperm(len(x), generator=generator).to(x.device).split(self.batch_size):
                logits = (x[batch] @ torch.stack(weights)).flatten(0, 1)
                labels = y[batch].repeat(len(lrs))
                optimizer.zero_grad()
                (F.cross_entropy(logits, labels) * len(lrs)).backward()  # the sum over classifiers
                optimizer.step()
                schedule.step()
        return torch.stack(weights).detach()


def standardized(train: Vectors, val: Float[Tensor, "m d"]) -> tuple[Vectors, Float[Tensor, "m d"]]:
    """Subtract the mean of the training features from both, and divide by their standard deviation."""
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0).clamp(min=1e-6)
    return (train - mean) / deviation, (val - mean) / deviation


def append_ones(x: Vectors) -> Float[Tensor, "n d1"]:
    """Append a coordinate of 1, so that the bias is a row of the weights."""
    return torch.cat((x, x.new_ones(len(x), 1)), dim=1)


def accuracies(weights: Float[Tensor, "r d1 c"], x: Vectors, y: Labels) -> Float[Tensor, " r"]:
    """Return the accuracy of each classifier, 0..1."""
    return ((append_ones(x) @ weights).argmax(dim=-1) == y).float().mean(dim=-1)
