"""Linear probe: a classifier on frozen features, trained with several learning rates in parallel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import trange

from cim_lightning.checks import check_at_least, check_each_above, check_share
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.estimate import FeatureKey
from cim_lightning.evaluation.features import TITLES, FeatureSet
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.sample_timing import random_features, seconds_of
from cim_lightning.evaluation.standardized import StandardizedFeatures, accuracies, standardize
from cim_lightning.metric_registry import COLUMN, Metric
from cim_lightning.models.last_layers import LastLayers

SAMPLE_STEPS = 2  # that are run to estimate the time


@dataclass
class LinearProbe:
    """Accuracy of a linear classifier on standardized features.

    A share of the training images is held out to choose the learning rate. The final classifier is trained on
    all training images with that rate, and is the only one that is evaluated on the validation images. All
    classifiers are trained by SGD with momentum 0.9 and a cosine schedule to zero.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        metric
        for name, title in TITLES.items()
        for metric in (
            Metric(name, title, None, (COLUMN,), True, f"probe, {name}", 1, unit="%"),
            Metric(f"{name}_last_*", f"{title}, last * layers", None, (), True, digits=1, unit="%"),
        )
    )

    lrs: list[float]  # learning rates to choose from
    epochs: int
    batch_size: int
    weight_decay: float
    val_fraction: float  # share of the training images that is held out, above 0 and below 1
    layers: int  # above 1: a second probe uses the mean of the features after that many last layers
    num_train: int | None  # maximum number of images to train on; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        check_each_above("lrs", self.lrs, 0, suggest=[0.1])
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_share("val_fraction", self.val_fraction, zero=False, one=False)
        check_at_least("layers", self.layers, 1)
        check_at_least("num_train", self.num_train, 2)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        LastLayers(context.backbone, self.layers)  # raises an error if there are fewer
        return needs_labels(context)

    def forward_passes(self, context: EvalContext) -> float:
        images = context.num_images("train", self.num_train) + context.num_images("val", self.num_val)
        return images * len({1, self.layers})

    def feature_sets(self, context: EvalContext) -> list[FeatureKey]:
        sets = (("train", self.num_train), ("val", self.num_val))
        return [(*split, layers) for layers in sorted({1, self.layers}) for split in sets]

    def seconds_on_features(self, context: EvalContext) -> float:
        """Return the time of all steps, of those with all learning rates and of those with the best."""
        images, device = context.num_images("train", self.num_train), context.device
        features, labels, classes = random_features(context, min(SAMPLE_STEPS * self.batch_size, images))
        data, rows = standardize(features.to(device), labels.to(device)), torch.arange(len(features))
        short, seconds = replace(self, epochs=1), 0.0
        for lrs, share in ((self.lrs, 1 - self.val_fraction), (self.lrs[:1], 1)):
            work = partial(short.fit, data, rows, classes, lrs, torch.Generator())
            seconds += seconds_of(work, device) * share * self.epochs * images / len(rows)
        return seconds * len(TITLES) * len({1, self.layers})

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return accuracies in %, as "mean", "pooled" and "mean_last_4"."""
        metrics, lrs, held_out = {}, {}, {}
        for layers in sorted({1, self.layers}):
            train = context.labeled_features("train", self.num_train, layers)
            val = context.labeled_features("val", self.num_val, layers)
            context.record(train_images=len(train.labels), val_images=len(val.labels))
            for features in TITLES:
                name = features if layers == 1 else f"{features}_last_{layers}"
                results = self.probe(train, val, features, context.device, context.seed)
                metrics[name], lrs[name], held_out[name] = results
        schedule = {"epochs": self.epochs, "batch_size": self.batch_size, "weight_decay": self.weight_decay}
        context.record(lr=lrs, held_out_accuracy=held_out, **schedule)
        return metrics

    def probe(
        self, train: FeatureSet, val: FeatureSet, features: str, device: torch.device, seed: int
    ) -> tuple[float, float, float]:
        """Return the accuracy on `val`, the learning rate, and its accuracy on the held-out images, in %."""
        generator = torch.Generator().manual_seed(seed)
        data = standardize(train.get(features).to(device), train.labels.to(device))
        order = torch.randperm(len(data), generator=generator)
        count = min(max(round(self.val_fraction * len(data)), 1), len(data) - 1)
        held_out, rest = order[:count].to(device), order[count:]
        classes = int(max(train.labels.max(), val.labels.max())) + 1
        candidates = self.fit(data, rest, classes, self.lrs, generator)
        held_out_accuracies = accuracies(candidates, data, held_out)
        best = int(held_out_accuracies.argmax())
        final = self.fit(data, torch.arange(len(data)), classes, [self.lrs[best]], generator)
        accuracy = accuracies(final, data.like(val.get(features), val.labels))
        return accuracy.item(), self.lrs[best], held_out_accuracies[best].item()

    def fit(
        self,
        data: StandardizedFeatures,
        rows: Int64[Tensor, " m"],
        classes: int,
        lrs: Sequence[float],
        generator: torch.Generator,
    ) -> Float[Tensor, "r d1 c"]:
        """Train one classifier per learning rate on the same batches; the last row of weights is the bias.

        Args:
            rows: indices of the features to train on.
        """
        d, device = data.features.shape[1], data.mean.device
        weights = [torch.zeros(d + 1, classes, device=device, requires_grad=True) for _ in lrs]
        groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, lrs, strict=True)]
        optimizer = SGD(groups, momentum=0.9, weight_decay=self.weight_decay)
        schedule = CosineAnnealingLR(optimizer, self.epochs * math.ceil(len(rows) / self.batch_size))
        for _ in trange(self.epochs, desc="linear probe", leave=False, disable=None):
            order = rows[torch.randperm(len(rows), generator=generator)].to(device)
            for batch in order.split(self.batch_size):
                logits = (data.read(batch) @ torch.stack(weights)).flatten(0, 1)
                labels = data.labels[batch].repeat(len(lrs))
                optimizer.zero_grad()
                (F.cross_entropy(logits, labels) * len(lrs)).backward()  # the sum over classifiers
                optimizer.step()
                schedule.step()
        return torch.stack(weights).detach()
