"""Estimate of the time and memory of an evaluation, from short runs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from cim_lightning.errors import BadImageError, ConfigError
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.evaluation.features import STORED
from cim_lightning.free_memory import free_memory

ENOUGH = 0.2  # seconds of a forward pass that is long enough to extrapolate from
GROWTH = 4  # of the measured batch, until it is long enough
SHORT = 45  # seconds; shorter times are not worth a minute
IMAGES = 8  # that are decoded to measure the time of decoding

FeatureKey = tuple[str, int | None, int]  # split, limit and layers of EvalContext.features


@runtime_checkable
class UsesFeatures(Protocol):
    """An evaluator of cached features, which it shares with others."""

    def feature_sets(self, context: EvalContext) -> Sequence[FeatureKey]:
        """Return what it reads from `EvalContext.features`."""
        ...

    def seconds_on_features(self, context: EvalContext) -> float:
        """Return the time without that of the features, from a short run on random features."""
        ...


@dataclass(frozen=True)
class Cost:
    """Time of each evaluator in seconds, and memory of the features in bytes, of one process."""

    seconds: Mapping[str, float]
    memory: int

    def __str__(self) -> str:
        """Return such as "about 6 min: knn 1 min, robustness 5 min; features: 4.1 GB of memory"."""
        parts = ", ".join(f"{name} {format_time(value)}" for name, value in self.seconds.items() if value)
        memory = f"; features: {self.memory / 1e9:.1f} GB of memory" if self.memory > 5e7 else ""
        return f"about {format_time(sum(self.seconds.values()))}: {parts}{memory}"


def estimate_cost(evaluators: Mapping[str, Evaluator], context: EvalContext) -> Cost:
    """Return the cost of evaluators on this process's share of the images.

    Features that several evaluators use are computed by the first one.
    """
    images, seconds, known = {}, {}, set[FeatureKey]()
    for name, evaluator in evaluators.items():
        images[name] = evaluator.forward_passes(context)
        if isinstance(evaluator, UsesFeatures):
            keys = set(evaluator.feature_sets(context))
            images[name] -= sum(context.num_images(split, limit) for split, limit, _ in keys & known)
            known |= keys
            seconds[name] = evaluator.seconds_on_features(context)
    if not any(images.values()):
        return Cost(seconds, 0)
    per_image = max(seconds_per_image(context), loading_seconds(context)) / context.world_size
    total = {name: count * per_image + seconds.get(name, 0) for name, count in images.items()}
    return Cost(total, feature_memory(evaluators, context))


def feature_memory(evaluators: Mapping[str, Evaluator], context: EvalContext) -> int:
    """Return the bytes of all features that evaluators use."""
    users = [evaluator for evaluator in evaluators.values() if isinstance(evaluator, UsesFeatures)]
    keys = {key for evaluator in users for key in evaluator.feature_sets(context)}
    return sum(feature_bytes(context, key) for key in keys)


def feature_bytes(context: EvalContext, key: FeatureKey) -> int:
    """Return the size of the "mean" and "pooled" features and of the labels."""
    split, limit, _ = key
    return context.num_images(split, limit) * (2 * context.backbone.dim * STORED.itemsize + 8)


def check_memory(features: int, processes: int = 1) -> None:
    """Check that the features fit into the memory of the machine.

    Args:
        features: their bytes.
        processes: of this machine; each stores all features.

    Raises:
        ConfigError: they do not fit.
    """
    free = free_memory()
    if free is not None and features * processes > free:
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"the features of all images need {features / 1e9:.1f} GB of memory{each}, and "
            f"{free / 1e9:.1f} GB are free; try a lower num_train in the settings of the evaluators"
        )


@torch.no_grad()
def seconds_per_image(context: EvalContext) -> float:
    """Measure a forward pass of black images, at most a batch of the data."""
    backbone, data, device = context.backbone, context.data, context.device
    size = data.view.size

    def measure(count: int) -> float:
        images = torch.zeros(count, backbone.in_channels, size, size, device=device)
        start = time.perf_counter()
        features = backbone(backbone.normalize(images))
        features.pooled.sum().item()  # waits for the device
        return time.perf_counter() - start

    count = 1
    while True:
        measure(count)  # the first pass chooses and loads kernels
        seconds = measure(count)
        if seconds > ENOUGH or count >= data.batch_size:
            return seconds / count
        count = min(GROWTH * count, data.batch_size)


def loading_seconds(context: EvalContext) -> float:
    """Measure the decoding and preprocessing of a few images, divided by the number of workers.

    Data without an image loader has no such time: it is 0.
    """
    loading, images = getattr(context.data, "loading", None), getattr(context.data, "splits", None)
    if loading is None or images is None or not len(images.val):
        return 0
    source: Any = images.val
    rng, start, count = np.random.default_rng(0), time.perf_counter(), 0
    for index in islice(range(0, len(source), -(-len(source) // IMAGES)), IMAGES):
        try:
            context.preprocessing(source[index][0], rng)
            count += 1
        except BadImageError:  # the loader replaces it, and reports it
            continue
    return (time.perf_counter() - start) / max(count, 1) / max(loading.num_workers, 1)


def format_time(seconds: float) -> str:
    """Return such as "20 s", "5 min" or "1.5 h"."""
    if seconds < SHORT:
        return f"{max(seconds, 1):.0f} s"
    minutes = seconds / 60
    return f"{max(minutes, 1):.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
