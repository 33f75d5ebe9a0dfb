"""k-nearest neighbours against rankings worked out by hand, and chance."""

import math

import pytest
import torch

from cim_lightning.evaluation import knn
from cim_lightning.evaluation.knn import knn_accuracy

# Cosines with the query (1, 0), whatever the lengths: 0.8, 0.6, 0.6 and -1.
BANK = torch.tensor([[8.0, 6.0], [0.3, 0.4], [6.0, -8.0], [-1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1, 2])
QUERY = torch.tensor([[5.0, 0.0]])


def winner(k: int, temperature: float) -> int:
    """The label that wins the query's vote."""
    right = [knn_accuracy(BANK, LABELS, QUERY, torch.tensor([c]), k, temperature) for c in range(3)]
    assert sorted(right) == [0, 0, 1]
    return right.index(1)


def test_with_one_neighbour_the_nearest_decides():
    assert winner(1, 0.07) == 0


def test_two_farther_neighbours_outvote_the_nearest_until_the_temperature_lets_it_weigh_double():
    # For label 0: exp(0.8 / t). For label 1: 2 exp(0.6 / t). They are equal at t = 0.2 / ln 2.
    equal = 0.2 / math.log(2)
    assert winner(3, equal * 1.01) == 1
    assert winner(3, equal * 0.99) == 0


@pytest.mark.parametrize("k", [4, 100])
def test_of_neighbours_there_are_no_more_than_the_bank_holds(k):
    assert winner(k, 1.0) == 1


def test_a_low_temperature_does_not_overflow():
    assert winner(4, 1e-4) == 0


def test_the_farthest_point_wins_where_it_is_the_nearest():
    opposite = torch.tensor([[-0.1, 0.0]])
    assert knn_accuracy(BANK, LABELS, opposite, torch.tensor([2]), 1, 0.07) == 1


def test_accuracy_is_the_share_of_queries_that_win():
    queries = torch.tensor([[5.0, 0.0], [0.3, 0.41], [-1.0, 0.1], [0.8, 0.6]])
    assert knn_accuracy(BANK, LABELS, queries, torch.tensor([0, 1, 2, 1]), 1, 0.07) == 0.75


def test_a_label_that_the_bank_lacks_is_wrong():
    assert knn_accuracy(BANK, LABELS, QUERY, torch.tensor([7]), 3, 0.07) == 0


def clusters(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 5
    return torch.eye(5, 8)[labels] + 0.1 * torch.randn(count, 8, generator=generator), labels


def test_clusters_are_told_apart_and_shuffled_labels_give_chance():
    generator = torch.Generator().manual_seed(0)
    bank, bank_labels = clusters(500, generator)
    queries, labels = clusters(1000, generator)
    assert knn_accuracy(bank, bank_labels, queries, labels, 10, 0.07) == 1
    shuffled = bank_labels[torch.randperm(500, generator=generator)]
    assert knn_accuracy(bank, shuffled, queries, labels, 10, 0.07) == pytest.approx(0.2, abs=0.06)


def test_it_does_not_depend_on_how_many_queries_are_worked_on_at_a_time(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(2, 60, 4, generator=generator)
    labels = torch.arange(60) % 3
    at_once = knn_accuracy(bank, labels, queries, labels, 5, 0.5)
    assert 0.1 < at_once < 0.9
    monkeypatch.setattr(knn, "CHUNK", 7)
    assert knn_accuracy(bank, labels, queries, labels, 5, 0.5) == at_once
