"""k-nearest-neighbor classification on frozen features."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cim_lightning.checks import check_above
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext

MAX_SIMILARITIES = 2**27  # per chunk of queries: half a gigabyte, so that ImageNet fits into memory


@dataclass
class KNN:
    """k-NN accuracy of the validation images, with the training images as neighbors."""

    ks: list[int]  # numbers of neighbors
    temperature: float  # see knn_accuracy
    num_train: int | None  # maximum number of images to search; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ConfigError("ks", self.ks, "must be numbers of neighbors, each at least 1", suggest=[20])
        check_above("temperature", self.temperature, 0, suggest=0.07)

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return accuracies in 0..1, as "mean_k20" and "pooled_k20"."""
        bank = context.labeled_features("train", self.num_train)
        queries = context.labeled_features("val", self.num_val)
        metrics = {}
        for kind in ("mean", "pooled"):
            x, val_x = (getattr(part, kind).to(context.device) for part in (bank, queries))
            y, val_y = (part.labels.to(context.device) for part in (bank, queries))
            for k in self.ks:
                metrics[f"{kind}_k{k}"] = knn_accuracy(x, y, val_x, val_y, k, self.temperature)
        return metrics


def knn_accuracy(
    bank: Float[Tensor, "n d"],
    bank_labels: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    query_labels: Int64[Tensor, " m"],
    k: int,
    temperature: float,
) -> float:
    """Return the accuracy, 0..1, of a vote among the k nearest features by cosine similarity.

    A neighbor with similarity s has the weight exp(s / temperature) (Wu et al., CVPR 2018, section 3.4).
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    correct, chunk_size = 0, max(MAX_SIMILARITIES // len(bank), 1)
    for chunk, labels in zip(queries.split(chunk_size), query_labels.split(chunk_size), strict=True):
        similarity, nearest = (chunk @ bank.T).topk(min(k, len(bank)))
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # at most 1, so no overflow
        votes = chunk.new_zeros(len(chunk), classes).scatter_add_(1, bank_labels[nearest], weights)
        correct += int((votes.argmax(dim=1) == labels).sum())
    return correct / len(queries)
