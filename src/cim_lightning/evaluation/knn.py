"""k-nearest-neighbour classification on frozen features."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

CHUNK = 1024  # queries at a time, so that similarities fit into memory


def knn_accuracy(
    bank: Float[Tensor, "n d"],
    bank_labels: Int64[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    query_labels: Int64[Tensor, " m"],
    k: int,
    temperature: float,
) -> float:
    """Share of queries, 0..1, whose label wins the vote of the k nearest by cosine similarity.

    A neighbour of similarity s votes with weight exp(s / temperature) (Wu et al., CVPR 2018, section 3.4).
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    correct = 0
    for chunk, truth in zip(queries.split(CHUNK), query_labels.split(CHUNK), strict=True):
        similarity, nearest = (chunk @ bank.T).topk(min(k, len(bank)))
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # the nearest weighs 1: no overflow
        votes = chunk.new_zeros(len(chunk), classes).scatter_add_(1, bank_labels[nearest], weights)
        correct += int((votes.argmax(dim=1) == truth).sum())
    return correct / len(queries)
