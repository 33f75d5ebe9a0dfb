"""Low-shot classification: logistic regression on frozen features with few labels."""

import statistics
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from cim_lightning.checks import check_at_least, check_one_of
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.estimate import FeatureKey
from cim_lightning.evaluation.features import Labels
from cim_lightning.evaluation.logistic import fit_weights
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.sample_timing import random_features, seconds_of
from cim_lightning.evaluation.standardized import accuracies, standardize
from cim_lightning.metric_registry import COLUMN, Metric
from cim_lightning.models.backbone import FEATURES

LBFGS_STEPS = 100  # enough to converge on few labels
SAMPLE, SAMPLE_STEPS = 2**11, 3  # features and steps of a fit that estimates the time


@dataclass
class LowShot:
    """Accuracy of logistic regression on few labeled training images, averaged over random draws of them.

    No hyperparameter is tuned, because no labels remain for tuning. The features are standardized on all
    training images, which needs no labels.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "*_*_percent",
            "*, * % of the labels",
            places=(COLUMN,),
            higher_is_better=True,
            short="low-shot, *, * % of labels",
            digits=1,
            unit="%",
        ),
        Metric("*_*_percent_deviation", "*, * % of the labels, deviation of draws", digits=1, unit="%"),
        Metric("*_*_per_class", "*, * labels per class", higher_is_better=True, digits=1, unit="%"),
        Metric("*_*_per_class_deviation", "*, * labels per class, deviation of draws", digits=1, unit="%"),
    )

    features: str  # "mean" or "pooled", see FeatureSet
    shares: list[float]  # shares of each class's training images, above 0 and at most 1
    shots: list[int]  # numbers of training images per class
    draws: int  # random draws per share and per number of shots
    penalty: float  # weight of the L2 penalty, see fit_weights
    num_train: int | None  # maximum number of images to draw from; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        check_one_of("features", self.features, FEATURES)
        if not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("shares", self.shares, "each must be above 0 and at most 1", suggest=[0.01])
        if not all(shot >= 1 for shot in self.shots):
            raise ConfigError("shots", self.shots, "each must be at least 1", suggest=[1])
        if not (self.shares or self.shots):
            raise ConfigError("shots", [], "without shares, there must be a number of labels", suggest=[1])
        check_at_least("draws", self.draws, 1)
        check_at_least("penalty", self.penalty, 0)
        check_at_least("num_train", self.num_train, 1)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        return needs_labels(context)

    def forward_passes(self, context: EvalContext) -> float:
        return context.num_images("train", self.num_train) + context.num_images("val", self.num_val)

    def feature_sets(self, context: EvalContext) -> list[FeatureKey]:
        return [("train", self.num_train, 1), ("val", self.num_val, 1)]

    def seconds_on_features(self, context: EvalContext) -> float:
        """Return the time of all fits, if each takes all of its steps."""
        images = context.num_images("train", self.num_train)
        features, labels, classes = random_features(context, min(images, SAMPLE))
        data = standardize(features.to(context.device), labels.to(context.device))
        seconds = seconds_of(partial(fit_weights, data, classes, self.penalty, SAMPLE_STEPS), context.device)
        rows = sum(share * images for share in self.shares) + sum(
            min(s * classes, images) for s in self.shots
        )
        return seconds * (LBFGS_STEPS / SAMPLE_STEPS) * self.draws * rows / len(features)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return mean accuracies in % as "mean_1_percent" and "mean_5_per_class", with "_deviation"."""
        train = context.labeled_features("train", self.num_train)
        val = context.labeled_features("val", self.num_val)
        labels = train.labels.to(context.device)
        data = standardize(train.get(self.features).to(context.device), labels)
        val_data = data.like(val.get(self.features), val.labels)
        classes = int(max(train.labels.max(), val.labels.max())) + 1
        sizes: dict[str, float | int] = {f"{100 * share:g}_percent": float(share) for share in self.shares}
        sizes |= {f"{shot}_per_class": shot for shot in self.shots}
        metrics = {}
        for size_name, size in tqdm(sizes.items(), desc="low shot", leave=False, disable=None):
            values = []
            for draw in range(self.draws):
                generator = torch.Generator().manual_seed(context.seed + draw)
                rows = draw_per_class(train.labels, size, generator).to(context.device)
                few = replace(data, features=data.features[rows], labels=labels[rows])
                weights = fit_weights(few, classes, self.penalty, LBFGS_STEPS)
                values.append(accuracies(weights[None], val_data).item())
            name = f"{self.features}_{size_name}"
            metrics |= {name: statistics.fmean(values), f"{name}_deviation": statistics.pstdev(values)}
        images = {"train_images": len(train.labels), "val_images": len(val.labels)}
        context.record(features=self.features, draws=self.draws, penalty=self.penalty, **images)
        return metrics


def draw_per_class(labels: Labels, size: float, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Return the indices of a random subset of each class, with at least one image per class.

    An int `size` is a number of images per class, a float a share of each class.
    """
    subsets = []
    for label in labels.unique().tolist():
        indices = (labels == label).nonzero().flatten()
        count = size if isinstance(size, int) else max(round(size * len(indices)), 1)
        subsets.append(indices[torch.randperm(len(indices), generator=generator)[:count]])
    return torch.cat(subsets)
