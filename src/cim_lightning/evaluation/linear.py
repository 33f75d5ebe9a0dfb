"""Linear probe: a classifier on frozen features, with many learning rates tried in one pass."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import trange

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.features import FeatureSet


class LinearProbe:
    """Accuracy of a linear classifier on each kind of features, standardized on the training images.

    Protocol: a share of the *training* images is held out; one classifier a learning rate is trained on the
    rest, all at once; the rate that does best on the held-out share then trains on all training images. The
    validation images are looked at once, by that last classifier.

    Args:
        lrs: learning rates to choose from.
        epochs, batch_size: of training, by SGD with momentum 0.9 and a cosine to zero.
        weight_decay: 0 or more.
        val_fraction: share of the training images on which the rate is chosen, above 0 and below 1.
        layers: above 1, a probe on the mean of so many last layers stands beside that on the last.
        num_train, num_val: most images to train on and to classify; None: all.
    """

    def __init__(
        self,
        lrs: list[float],
        epochs: int,
        batch_size: int,
        weight_decay: float,
        val_fraction: float,
        layers: int,
        num_train: int | None,
        num_val: int | None,
    ):
        if not lrs or min(lrs) <= 0:
            raise ConfigError(f"evaluation.linear.lrs={lrs}: one or more lrs above 0; try [0.1]")
        if not 0 < val_fraction < 1:
            raise ConfigError(
                f"evaluation.linear.val_fraction={val_fraction}: a share between 0 and 1; try 0.1"
            )
        for name, value in {"epochs": epochs, "batch_size": batch_size, "layers": layers}.items():
            if value < 1:
                raise ConfigError(f"evaluation.linear.{name}={value}: at least 1; try 1")
        self.lrs, self.epochs, self.batch_size = lrs, epochs, batch_size
        self.weight_decay, self.val_fraction, self.layers = weight_decay, val_fraction, layers
        self.num_train, self.num_val = num_train, num_val

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Of "mean" and "pooled" features: accuracy, 0..1, the rate chosen, and what it reached held out."""
        numbers = {}
        for layers in sorted({1, self.layers}):
            train = context.labeled_features("train", self.num_train, layers)
            val = context.labeled_features("val", self.num_val, layers)
            for kind in ("mean", "pooled"):
                name = kind if layers == 1 else f"{kind}_last_{layers}"
                accuracy, rate, held = self.probe(train, val, kind, context.device, context.seed)
                numbers |= {name: accuracy, f"{name}_rate": rate, f"{name}_held_out": held}
        return numbers

    def probe(
        self, train: FeatureSet, val: FeatureSet, kind: str, device: torch.device, seed: int
    ) -> tuple[float, float, float]:
        """Validation accuracy, rate and held-out accuracy on one kind of features."""
        generator = torch.Generator().manual_seed(seed)
        x, queries = (part.to(device) for part in standardized(getattr(train, kind), getattr(val, kind)))
        y, answers = train.labels.to(device), val.labels.to(device)
        order = torch.randperm(len(y), generator=generator).to(device)
        count = min(max(round(self.val_fraction * len(y)), 1), len(y) - 1)
        held, rest = order[:count], order[count:]
        classes = int(max(y.max(), answers.max())) + 1
        tried = self.fit(x[rest], y[rest], classes, self.lrs, generator)
        reached = accuracies(tried, x[held], y[held])
        best = int(reached.argmax())
        chosen = self.fit(x, y, classes, [self.lrs[best]], generator)
        return accuracies(chosen, queries, answers).item(), self.lrs[best], reached[best].item()

    def fit(
        self,
        x: Float[Tensor, "n d"],
        y: Int64[Tensor, " n"],
        classes: int,
        lrs: Sequence[float],
        generator: torch.Generator,
    ) -> Float[Tensor, "r d1 c"]:
        """One classifier a rate, its bias in the last row; each sees the same batches in the same order."""
        x = with_one(x)
        weights = x.new_zeros(len(lrs), x.shape[1], classes)
        speed, rate = torch.zeros_like(weights), x.new_tensor(lrs)[:, None, None]
        steps = self.epochs * math.ceil(len(x) / self.batch_size)
        done = 0
        for _ in trange(self.epochs, desc="linear probe", leave=False, disable=None):
            for batch in torch.randperm(len(x), generator=generator).to(x.device).split(self.batch_size):
                share = F.softmax(x[batch] @ weights, dim=-1) - F.one_hot(y[batch], classes)
                gradient = x[batch].T @ share / len(batch) + self.weight_decay * weights
                speed = 0.9 * speed + gradient
                weights = weights - rate * 0.5 * (1 + math.cos(math.pi * done / steps)) * speed
                done += 1
        return weights


def standardized(
    train: Float[Tensor, "n d"], other: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Both with the training features' mean taken off and deviation divided out, coordinate by coordinate."""
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0).clamp(min=1e-6)
    return (train - mean) / deviation, (other - mean) / deviation


def with_one(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d1"]:
    """A last coordinate of 1, so that a bias is one more weight."""
    return torch.cat((x, x.new_ones(len(x), 1)), dim=1)


def accuracies(
    weights: Float[Tensor, "r d1 c"], x: Float[Tensor, "n d"], y: Int64[Tensor, " n"]
) -> Float[Tensor, " r"]:
    """Share of right answers of each classifier, 0..1."""
    return ((with_one(x) @ weights).argmax(dim=-1) == y).float().mean(dim=-1)
