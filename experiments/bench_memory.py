"""Peak host memory of the evaluators on synthetic features, with `--full` as many as ImageNet has.

The memory is that of the whole process since the step began, above its memory before the first step. Queries,
steps and labels are reduced for the time; the memory does not depend on them. The floor of the memory is that
of the stored features: two vectors in fp16 and a label per image.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench.command_line import main
from bench.interleave import Samples, Timing
from bench.ledger import Claim, Entry, Report
from bench.synthetic_features import BATCH, CPU, synthetic_context

from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.estimate import Cost, estimate_cost, feature_bytes
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.linear import LinearProbe
from cim_lightning.evaluation.lowshot import LowShot
from cim_lightning.evaluation.standardized import standardize

IMAGENET = (1_281_167, 50_000, 768, 1000)  # training images, validation images, dimensions, classes
SMALL, TINY = (200_000, 10_000, 384, 100), (2000, 200, 16, 5)
QUERIES, STEPS = 500, 100
LIMIT = 16.0  # GB
PROBE = LinearProbe([0.01, 0.03, 0.1], 1, BATCH, 0.0, 0.1, 1, None, None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="as many features as ImageNet, about 15 minutes")


def steps_of_probe(context: EvalContext) -> None:
    """Train a linear probe on rows of all training features."""
    train = context.features("train", None)
    data = standardize(train.mean, train.labels)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: STEPS * BATCH]
    PROBE.fit(data, rows, int(train.labels.max()) + 1, PROBE.lrs, torch.Generator().manual_seed(0))


def measured(work: Callable[[], Any]) -> tuple[Timing, int]:
    """Return the time of one call and the peak memory in bytes."""
    reset_peak(CPU)
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    return Timing(*(Samples((1000 * value,)) for value in seconds)), peak(CPU)


def measure(args: argparse.Namespace) -> Report:
    num_train, num_val, dim, classes = TINY if args.smoke else IMAGENET if args.full else SMALL
    with tempfile.TemporaryDirectory() as folder:
        context = synthetic_context(dim, num_train, num_val, classes, Path(folder))
        cost = estimate_cost({"knn": KNN([20], 0.07, None, None)}, context)
        reset_peak(CPU)
        before, entries = peak(CPU), []
        works = {f"features of {num_train:,} images": lambda: context.features("train", None)}
        works["features of validation images"] = lambda: context.features("val", None)
        works[f"k-NN, {QUERIES} queries, mean and pooled"] = lambda: search(context)
        works[f"linear probe, {STEPS} steps of {BATCH} images"] = lambda: steps_of_probe(context)
        works["low-shot, 1 label per class"] = lambda: LowShot("mean", [], [1], 1, 0.01, None, None)(context)
        for name, work in works.items():
            timing, bytes_ = measured(work)
            values = {"peak memory, GB": (bytes_ - before) / 1e9, "stored features, GB": cost.memory / 1e9}
            entries.append(Entry(f"evaluation, d = {dim}", name, timing, values=values))
        stored = feature_bytes(context, ("train", None, 1))
    return Report(entries, claims(entries, stored, args.full), [estimate_note(cost)])


def search(context: EvalContext) -> None:
    """Classify a few queries by all training features."""
    few = FeatureSet(*(tensor[:QUERIES] for tensor in context.features("val", None)))
    part = replace(context, _features={**context._features, ("val", QUERIES, 1): few})
    KNN([1, 10, 20, 100], 0.07, None, QUERIES)(part)


def claims(entries: list[Entry], stored: int, full: bool) -> list[Claim]:
    """Return the claims.

    Args:
        stored: bytes of the training features, which the first entry extracts.
    """
    most = max(entry.values["peak memory, GB"] for entry in entries)
    size = Claim(
        "k-NN and probe of ImageNet's size, memory", most if full else None, "at most", LIMIT, "GB", 8.0
    )
    return [
        size,
        Claim(
            "extraction, memory beside the stored features",
            entries[0].values["peak memory, GB"] - stored / 1e9,
            "at most",
            0.5,
            "GB",
            0.3,
        ),
    ]


def estimate_note(cost: Cost) -> str:
    return f"The estimate before the start: {cost}."


if __name__ == "__main__":
    main("memory", measure, __doc__, add_arguments)
