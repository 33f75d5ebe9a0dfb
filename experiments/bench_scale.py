"""Time of k-NN and of the linear probe on many features, and of their estimate.

A search for several k is compared with searches for one k. The floor of a search is the product of the
normalized queries and features. The number of features is reduced; the time is proportional to it.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from bench.command_line import main
from bench.interleave import interleave, speedup
from bench.ledger import Claim, Entry, Report, merge
from bench.synthetic_features import BATCH, CPU, synthetic_context
from torch.nn.functional import normalize

from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.knn import KNN, knn_accuracies
from cim_lightning.evaluation.linear import LinearProbe
from cim_lightning.evaluation.standardized import standardize

SIZES = {"CIFAR-10": (50_000, 512, 192, 10), "4 % of ImageNet": (51_200, 256, 768, 1000)}
TINY = {"tiny": (500, 50, 16, 5)}  # training and validation images, dimensions, classes
KS = [1, 10, 20, 100]


def searches(context: EvalContext) -> dict[str, partial]:
    train, val = (context.features(split, None) for split in ("train", "val"))
    data = (train.mean, train.labels, val.mean, val.labels)
    queries, bank = (normalize(part.mean.float(), dim=1) for part in (val, train))
    choices = {"four k": KS, "k = 20": KS[2:3], "k = 100": KS[3:]}
    works = {name: partial(knn_accuracies, *data, ks, 0.07, CPU) for name, ks in choices.items()}
    works["four searches"] = partial(lambda: [knn_accuracies(*data, [k], 0.07, CPU) for k in KS])
    return works | {"product only": partial(torch.matmul, queries, bank.T)}


def measure_search(args: argparse.Namespace, name: str, context: EvalContext) -> Report:
    count = context.num_images("val", None)
    timings = interleave(searches(context), args.rounds)
    floor = timings["product only"].cpu.median / count
    entries = [
        Entry(f"k-NN search, {name}", variant, timing, count, "image", "k = 20", floor)
        for variant, timing in timings.items()
    ]
    four = 1 / speedup(timings["k = 20"], timings["four k"])
    return Report(entries, [Claim(f"k-NN for four k against one, {name}", four, "at most", 1.3, "x", 1.1)])


def measure_probe(args: argparse.Namespace, name: str, context: EvalContext) -> Report:
    """Compare three learning rates at once with three probes of one."""
    train, steps = context.features("train", None), 1 if args.smoke else 4
    data, classes = standardize(train.mean, train.labels), int(train.labels.max()) + 1
    rows = torch.arange(min(steps * BATCH, len(data)))
    lrs = [0.01, 0.03, 0.1]
    probe = LinearProbe(lrs, 1, BATCH, 0.0, 0.1, 1, None, None)

    def fit(rates: list[float]) -> torch.Tensor:
        return probe.fit(data, rows, classes, rates, torch.Generator().manual_seed(0))

    works = {
        "three learning rates at once": lambda: fit(lrs),
        "three probes": lambda: [fit([lr]) for lr in lrs],
    }
    timings = interleave(works, args.rounds)
    entries = [
        Entry(f"linear probe, {name}", variant, timing, len(rows), "feature", "three probes")
        for variant, timing in timings.items()
    ]
    return Report(entries)


def measure_estimate(args: argparse.Namespace, name: str, context: EvalContext) -> Report:
    """Compare the estimate of a search with its time."""
    search = KNN(KS, 0.07, None, None)
    estimate = search.seconds_on_features(context)
    wall = interleave({"": lambda: search(context)}, 1, warmup=0)[""]
    values = {"estimate, s": estimate, "measured, s": wall.wall.median / 1000}
    ratio = max(estimate * 1000 / wall.wall.median, wall.wall.median / (estimate * 1000))
    claim = Claim(f"estimate of k-NN, factor from the measured time, {name}", ratio, "at most", 3, "x", 1.5)
    return Report([Entry("estimate of k-NN", name, wall, values=values)], [claim])


def measure(args: argparse.Namespace) -> Report:
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (num_train, num_val, dim, classes) in (TINY if args.smoke else SIZES).items():
            context = synthetic_context(dim, num_train, num_val, classes, Path(folder))
            for part in (measure_search, measure_probe, measure_estimate):
                reports.append(part(args, name, context))
    return merge(reports)


if __name__ == "__main__":
    main("scale", measure, __doc__)
