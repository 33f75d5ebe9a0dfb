"""Estimate of the time of an evaluation, from one measured forward pass."""

import time
from collections.abc import Mapping

import torch

from cim_lightning.evaluation.context import EvalContext, Evaluator

ENOUGH = 0.2  # seconds of a forward pass that is long enough to extrapolate from
GROWTH = 4  # of the measured batch, until it is long enough
SHORT = 45  # seconds; shorter times are not worth a minute


def estimate_seconds(evaluators: Mapping[str, Evaluator], context: EvalContext) -> dict[str, float]:
    """Return the time of each evaluator on this process's share of the images.

    It covers the backbone only, not the decoding of images.
    """
    images = {name: evaluator.forward_passes(context) for name, evaluator in evaluators.items()}
    if not any(images.values()):
        return {}
    seconds = seconds_per_image(context) / context.world_size
    return {name: count * seconds for name, count in images.items()}


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


def format_estimate(seconds: Mapping[str, float]) -> str:
    """Return such as "about 6 min: knn 1 min, robustness 5 min"."""
    parts = ", ".join(f"{name} {format_time(value)}" for name, value in seconds.items() if value)
    return f"about {format_time(sum(seconds.values()))}: {parts}"


def format_time(seconds: float) -> str:
    """Return such as "20 s", "5 min" or "1.5 h"."""
    if seconds < SHORT:
        return f"{max(seconds, 1):.0f} s"
    minutes = seconds / 60
    return f"{max(minutes, 1):.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
