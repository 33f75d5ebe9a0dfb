"""k-NN accuracy: votes computed by hand, chance level, chunks."""

import math

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.knn import KNN, knn_accuracy


def at(*degrees: float) -> torch.Tensor:
    """Vectors in the plane at these angles, with different lengths, which a cosine ignores."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack((angles.cos(), angles.sin()), dim=1) * torch.arange(1, len(degrees) + 1)[:, None]


# Similarities to 0 degrees: 0.985 (class 0), 0.940 (class 1), 0.866 (class 1), 0 (class 2).
BANK, LABELS = at(10, -20, 30, 90), torch.tensor([0, 1, 1, 2])


def winner(k: int, temperature: float) -> int:
    """The predicted class of a query at 0 degrees."""
    hits = [knn_accuracy(BANK, LABELS, at(0), torch.tensor([c]), k, temperature) for c in range(3)]
    assert sorted(hits) == [0, 0, 1]
    return hits.index(1)


@pytest.mark.parametrize(
    ("k", "temperature", "expected"),
    [
        (1, 0.07, 0),  # the nearest alone
        (3, 10.0, 1),  # two of three, all with nearly the same weight
        # exp(0.985 / T) against exp(0.940 / T) + exp(0.866 / T), 1 against e^(-0.0451/T) + e^(-0.1188/T):
        (3, 0.12, 1),  # 0.687 + 0.372 = 1.06
        (3, 0.11, 1),  # 0.664 + 0.340 = 1.003
        (3, 0.10, 0),  # 0.637 + 0.305 = 0.94
        (99, 10.0, 1),  # more than the bank has
    ],
)
def test_the_ranking_of_four_points(k, temperature, expected):
    assert winner(k, temperature) == expected


def test_accuracy_is_the_share_of_queries():
    queries, labels = at(12, -25, 85, 100), torch.tensor([0, 1, 2, 0])
    assert knn_accuracy(BANK, LABELS, queries, labels, 1, 0.07) == 0.75


def test_random_labels_give_chance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2000, 16, generator=generator)
    labels = torch.randint(0, 4, (len(features),), generator=generator)
    bank, queries = features[:1000], features
    accuracy = knn_accuracy(bank, labels[:1000], queries[1000:], labels[1000:], 20, 0.07)
    assert abs(accuracy - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 1000)
    assert (
        knn_accuracy(bank, labels[:1000], queries, labels, 1, 0.07) > 0.6
    )  # half of the queries are in the bank


def test_chunks_do_not_change_the_vote(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(50, 5, generator=generator), torch.randn(37, 5, generator=generator)
    labels, query_labels = torch.arange(50) % 3, torch.arange(37) % 3
    whole = knn_accuracy(bank, labels, queries, query_labels, 7, 0.07)
    monkeypatch.setattr("cim_lightning.evaluation.knn.MAX_SIMILARITIES", 500)
    assert knn_accuracy(bank, labels, queries, query_labels, 7, 0.07) == whole


def test_small_temperatures_do_not_overflow():
    assert knn_accuracy(BANK, LABELS, at(0), torch.tensor([0]), 4, 1e-4) == 1


@pytest.mark.parametrize(
    ("ks", "temperature", "message"),
    [([], 0.07, r"ks=\[\]"), ([5, 0], 0.07, r"ks=\[5, 0\]"), ([1], 0.0, "temperature=0")],
)
def test_invalid_settings_raise(ks, temperature, message):
    with pytest.raises(ConfigError, match=rf"^{message}.*; try "):
        KNN(ks, temperature, None, None)
