"""k-nearest-neighbor classification on frozen features."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext

SIMILARITIES = 2**27  # at a time: half a gigabyte of them, so that all of ImageNet fits


class KNN:
    """Accuracy of a vote of the nearest training images, for several k, on both kinds of features.

    Args:
        ks: numbers of neighbors.
        temperature: see knn_accuracy.
        num_train, num_val: most images that vote and that are classified; None: all.
    """

    def __init__(self, ks: list[int], temperature: float, num_train: int | None, num_val: int | None):
        if not ks or min(ks) < 1:
            raise ConfigError(f"evaluation.knn.ks={ks}: numbers of neighbors, each 1 or more; try [20]")
        self.ks, self.temperature = ks, temperature
        self.num_train, self.num_val = num_train, num_val

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Shares of validation images, 0..1, as "mean_k20", "pooled_k20" and so on."""
        bank, queries = (
            context.labeled_features("train", self.num_train),
            context.labeled_features("val", self.num_val),
        )
        numbers = {}
        for kind in ("mean", "pooled"):
            mine, theirs = (getattr(one, kind).to(context.device) for one in (bank, queries))
            votes, answers = (one.labels.to(context.device) for one in (bank, queries))
            for k in self.ks:
                numbers[f"{kind}_k{k}"] = knn_accuracy(mine, votes, theirs, answers, k, self.temperature)
        return numbers


def knn_accuracy(
    bank: Float[Tensor, "n d"],
    bank_labels: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    query_labels: Int64[Tensor, " m"],
    k: int,
    temperature: float,
) -> float:
    """Share of queries, 0..1, whose label wins the vote of the k nearest by cosine similarity.

    A neighbor of similarity s votes with weight exp(s / temperature) (Wu et al., CVPR 2018, section 3.4).
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    correct = 0
    at_once = max(SIMILARITIES // len(bank), 1)
    for chunk, truth in zip(queries.split(at_once), query_labels.split(at_once), strict=True):
        similarity, nearest = (chunk @ bank.T).topk(min(k, len(bank)))
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # the nearest weighs 1: no overflow
        votes = chunk.new_zeros(len(chunk), classes).scatter_add_(1, bank_labels[nearest], weights)
        correct += int((votes.argmax(dim=1) == truth).sum())
    return correct / len(queries)
