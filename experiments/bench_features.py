"""Time and peak host memory of the evaluators on synthetic features, by default as many as ImageNet has.

Run on an idle machine: `python experiments/bench_features.py`. Results: experiments/benchmarks.md.
The second table compares storage in fp16 and in fp32, on `--compare` images; 0: none.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.evaluation import features
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.knn import KNN
from cim_lightning.evaluation.linear import LinearProbe
from cim_lightning.evaluation.lowshot import LowShot
from cim_lightning.evaluation.standardized import accuracies, standardize
from cim_lightning.models.backbone import Backbone, Features

CPU, BATCH = torch.device("cpu"), 1024
DISTANCE = 0.2  # deviation of a coordinate of the class means; that of an image around its mean is 1


class SyntheticBackbone(Backbone):
    """A backbone whose features are the mean of the image's class plus noise."""

    def __init__(self, dim: int, num_classes: int):
        super().__init__("synthetic", dim, 3, 1, mean=(0, 0, 0), std=(1, 1, 1))
        self.generator = torch.Generator().manual_seed(0)
        self.means = DISTANCE * torch.randn(num_classes, dim, generator=self.generator)

    def compute_features(self, images: Tensor) -> Features:
        low, high, _ = (255 * images[:, :, 0, 0]).round().long().unbind(dim=1)
        noise = torch.randn(len(images), self.dim, generator=self.generator)
        vectors = self.means[low + 256 * high] + noise
        return Features(vectors, vectors[..., None, None])


class SyntheticData:
    """Images of one pixel, whose color is the number of the class."""

    def __init__(self, num_train: int, num_val: int, num_classes: int):
        self.counts, self.num_classes = {"train": num_train, "val": num_val}, num_classes
        sources = {name: SimpleNamespace(classes=range(num_classes)) for name in self.counts}
        self.splits, self.view = SimpleNamespace(**sources), SimpleNamespace(size=1)

    def eval_dataloader(self, split: str, limit: int | None, *_: Any) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(len(split))
        count = min(limit or self.counts[split], self.counts[split])
        for start in range(0, count, BATCH):
            size = (min(BATCH, count - start),)
            labels = torch.randint(self.num_classes, size, generator=generator)
            color = torch.stack((labels % 256, labels // 256, 0 * labels), dim=1).to(torch.uint8)
            yield color[..., None, None], labels


def build(args: argparse.Namespace, num_train: int, folder: str) -> EvalContext:
    data = SyntheticData(num_train, args.val, args.classes)
    return EvalContext(SyntheticBackbone(args.dim, args.classes), None, data, CPU, Path(folder), 0, {})


def probe(context: EvalContext, steps: int) -> dict[str, float]:
    """Train a linear probe for some steps, on rows of all training features, and return its accuracy."""
    train, val = context.features("train", None), context.features("val", None)
    data = standardize(train.mean, train.labels)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: steps * BATCH]
    linear = LinearProbe([0.03], 1, BATCH, 0.0, 0.1, 1, None, None)
    classes = int(train.labels.max()) + 1
    weights = linear.fit(data, rows, classes, linear.lrs, torch.Generator().manual_seed(0))
    return {"linear/mean": accuracies(weights, data.like(val.mean, val.labels)).item()}


def evaluators(args: argparse.Namespace) -> dict[str, Callable[[EvalContext], dict[str, float]]]:
    """Return evaluators with few queries, steps and draws, which change the time but not the memory."""
    choices = {
        f"k-NN, {args.queries} queries, mean and pooled": KNN([20], 0.07, None, args.queries),
        f"linear probe, {args.steps} steps": functools.partial(probe, steps=args.steps),
        "low-shot, 1 label per class": LowShot("mean", [], [1], 1, 0.01, None, None),
    }
    return {name: part for name, part in choices.items() if args.only in name}


def measure(work: Callable[[], Any]) -> tuple[Any, str]:
    reset_peak(CPU)
    start = time.perf_counter()
    result = work()
    return result, f"{time.perf_counter() - start:,.0f} | {peak(CPU) / 1e9:.1f}"


def bench_memory(args: argparse.Namespace, folder: str) -> None:
    context = build(args, args.images, folder)
    print("| step | seconds | peak memory, GB |\n|---|---|---|", flush=True)
    for split, count in context.data.counts.items():
        _, cells = measure(lambda split=split: context.features(split, None))
        print(f"| features of {count:,} images ({split}) | {cells} |", flush=True)
    _share_queries(context, args.queries)
    for name, evaluator in evaluators(args).items():
        _, cells = measure(lambda evaluator=evaluator: evaluator(context))
        print(f"| {name} | {cells} |", flush=True)


def bench_storage(args: argparse.Namespace, folder: str) -> None:
    print("\n| metric, % | fp16 | fp32 |\n|---|---|---|")
    numbers = []
    for features.STORED in (torch.float16, torch.float32):
        context = build(args, args.compare, folder)
        _share_queries(context, args.queries)
        numbers.append({k: v for part in evaluators(args).values() for k, v in part(context).items()})
    for name in numbers[0]:
        print(f"| {name} | {numbers[0][name]:.2f} | {numbers[1][name]:.2f} |", flush=True)


def _share_queries(context: EvalContext, queries: int) -> None:
    """Let k-NN classify the first validation images instead of extracting features again."""
    first = (tensor[:queries] for tensor in context.features("val", None))
    context._features["val", queries, 1] = features.FeatureSet(*first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"images": 1_281_167, "val": 50_000, "dim": 768, "classes": 1000}
    for name, value in {**defaults, "queries": 500, "steps": 100, "compare": 100_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", default="", help="measure the evaluators with this text in their name")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench_memory(args, folder)
        if args.compare:
            bench_storage(args, folder)


if __name__ == "__main__":
    main()
