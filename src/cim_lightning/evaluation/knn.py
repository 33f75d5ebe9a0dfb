"""k-nearest-neighbor classification on frozen features."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from cim_lightning.checks import check_above, check_at_least, check_each_at_least
from cim_lightning.data.label_share import count_labeled
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.distributed import share_of_process, sum_over_processes
from cim_lightning.evaluation.estimate import FeatureKey
from cim_lightning.evaluation.features import TITLES
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.evaluation.sample_timing import random_features, seconds_of
from cim_lightning.metric_registry import COLUMN, Metric

log = logging.getLogger(__name__)

BANK_CHUNK, QUERY_CHUNK = 2**16, 2**10  # similarities of a chunk: a quarter of a gigabyte
SAMPLE = 2**13  # features that are searched to estimate the time


@dataclass
class KNN:
    """k-NN accuracy of the validation images, with the training images as neighbors."""

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(f"{name}_k*", f"{title}, k = *", None, (COLUMN,), True, f"k-NN, {name}, k = *", 1, unit="%")
        for name, title in TITLES.items()
    )

    ks: list[int]  # numbers of neighbors
    temperature: float  # see knn_accuracies
    num_train: int | None  # maximum number of images to search; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        check_each_at_least("ks", self.ks, 1, suggest=[20])
        check_above("temperature", self.temperature, 0, suggest=0.07)
        check_at_least("num_train", self.num_train, 1)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        reason = needs_labels(context)
        if reason is None:
            log_few_neighbors("ks", max(self.ks), context.data, self.num_train)
        return reason

    def forward_passes(self, context: EvalContext) -> float:
        return context.num_images("train", self.num_train) + context.num_images("val", self.num_val)

    def feature_sets(self, context: EvalContext) -> list[FeatureKey]:
        return [("train", self.num_train, 1), ("val", self.num_val, 1)]

    def seconds_on_features(self, context: EvalContext) -> float:
        """Return the time of the search for neighbors, which takes most of the time."""
        images, queries = (context.num_images(*key[:2]) for key in self.feature_sets(context))
        bank, *_ = random_features(context, min(images, SAMPLE))
        few = bank[:QUERY_CHUNK]
        work = partial(nearest_neighbors, bank, few, max(self.ks), context.device)
        pairs = len(TITLES) * (images / len(bank)) * (queries / len(few)) / context.world_size
        return pairs * seconds_of(work, context.device)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return accuracies in %, as "mean_k20" and "pooled_k20"."""
        train = context.labeled_features("train", self.num_train)
        val = context.labeled_features("val", self.num_val)
        context.record(
            k=self.ks,
            temperature=self.temperature,
            train_images=len(train.labels),
            val_images=len(val.labels),
        )
        metrics = {}
        for features in TITLES:
            accuracies = knn_accuracies(
                train.get(features),
                train.labels,
                val.get(features),
                val.labels,
                self.ks,
                self.temperature,
                context.device,
            )
            metrics |= {f"{features}_k{k}": accuracy for k, accuracy in accuracies.items()}
        return metrics


def log_few_neighbors(name: str, k: int, data: Any, limit: int | None) -> None:
    """Warn about more neighbors than labeled training images.

    Args:
        name: of the parameter `k`, the number of neighbors.
        data: an ImageData. Without labels, there is no warning, because nothing votes.
        limit: maximum number of images that vote, labeled ones first; None: all.
    """
    voters = count_labeled(data.images("train"))
    voters = voters if limit is None else min(voters, limit)
    if 0 < voters < k:
        log.warning("%s=%d: there are only %d labeled training images, and all of them vote", name, k, voters)


def knn_accuracies(
    bank: Float[Tensor, "n d"],
    bank_labels: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    query_labels: Int64[Tensor, " m"],
    ks: Sequence[int],
    temperature: float,
    device: torch.device,
) -> dict[int, float]:
    """Return the accuracy in % of a vote among the k nearest features by cosine similarity, for each k.

    A neighbor with similarity s has the weight exp(s / temperature) (Wu et al., CVPR 2018, section 3.4).
    Every process classifies its share of the queries.
    """
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    similarities, neighbors = nearest_neighbors(bank, share_of_process(queries), max(ks), device)
    labels, targets = bank_labels[neighbors], share_of_process(query_labels)
    weights = ((similarities - similarities[:, :1]) / temperature).exp()  # at most 1, so no overflow
    correct = dict.fromkeys(ks, 0)
    for chunk in torch.arange(len(targets)).split(QUERY_CHUNK):
        for k in ks:
            votes = torch.zeros(len(chunk), classes)
            votes.scatter_add_(1, labels[chunk, :k], weights[chunk, :k])
            correct[k] += int((votes.argmax(dim=1) == targets[chunk]).sum())
    return {k: 100 * sum_over_processes(count, device) / len(queries) for k, count in correct.items()}


def nearest_neighbors(
    bank: Float[Tensor, "n d"], queries: Float[Tensor, "m d"], k: int, device: torch.device
) -> tuple[Float[Tensor, "m j"], Int64[Tensor, "m j"]]:
    """Return cosine similarities and indices of the min(k, n) nearest features, the nearest first.

    The features may be in fp16 on the CPU. A chunk of them at a time is normalized in fp32 on the device.
    """
    queries = normalize(queries.to(device).float(), dim=1)
    best = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    for start in range(0, len(bank), BANK_CHUNK):
        chunk = normalize(bank[start : start + BANK_CHUNK].to(device).float(), dim=1)
        found = [(part @ chunk.T).topk(min(k, len(chunk))) for part in queries.split(QUERY_CHUNK)]
        similarity = torch.cat([best, torch.cat([values for values, _ in found])], dim=1)
        index = torch.cat([indices, torch.cat([places + start for _, places in found])], dim=1)
        best, order = similarity.topk(min(k, similarity.shape[1]))
        indices = index.gather(1, order)
    return best.cpu(), indices.cpu()
