"""k-NN accuracy: votes computed by hand, chance level, chunks."""

import math

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation import knn
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.knn import KNN, knn_accuracies, nearest_neighbors


def at(*degrees: float) -> torch.Tensor:
    """Vectors in the plane at these angles, with different lengths, which a cosine ignores."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack((angles.cos(), angles.sin()), dim=1) * torch.arange(1, len(degrees) + 1)[:, None]


# Similarities to 0 degrees: 0.985 (class 0), 0.940 (class 1), 0.866 (class 1), 0 (class 2).
BANK, LABELS = at(10, -20, 30, 90), torch.tensor([0, 1, 1, 2])


CPU = torch.device("cpu")


def accuracy(*features_and_labels: torch.Tensor, k: int, temperature: float = 0.07) -> float:
    return knn_accuracies(*features_and_labels, [k], temperature, CPU)[k]


def winner(k: int, temperature: float) -> int:
    """The predicted class of a query at 0 degrees."""
    query = [(at(0), torch.tensor([c])) for c in range(3)]
    hits = [accuracy(BANK, LABELS, *pair, k=k, temperature=temperature) for pair in query]
    assert sorted(hits) == [0, 0, 100]
    return hits.index(100)


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


def test_accuracy_is_the_percentage_of_queries():
    queries, labels = at(12, -25, 85, 100), torch.tensor([0, 1, 2, 0])
    assert accuracy(BANK, LABELS, queries, labels, k=1) == 75


def test_several_ks_share_one_search():
    generator = torch.Generator().manual_seed(2)
    bank, queries = torch.randn(50, 5, generator=generator), torch.randn(37, 5, generator=generator)
    data = (bank, torch.arange(50) % 3, queries, torch.arange(37) % 3)
    together = knn_accuracies(*data, [9, 1, 4], 0.07, CPU)
    assert together == {k: accuracy(*data, k=k) for k in (9, 1, 4)}


def test_shuffled_labels_give_chance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2000, 16, generator=generator)
    labels = torch.randint(0, 4, (len(features),), generator=generator)
    bank = (features[:1000], labels[:1000])
    unseen = accuracy(*bank, features[1000:], labels[1000:], k=20)
    assert abs(unseen - 25) < 100 * 4 * math.sqrt(0.25 * 0.75 / 1000)
    assert accuracy(*bank, features, labels, k=1) > 60  # half of the queries are in the bank


@pytest.mark.parametrize(("bank_chunk", "query_chunk"), [(50, 1), (7, 37), (8, 10)])
def test_the_neighbors_are_those_of_the_full_table_in_any_chunks(monkeypatch, bank_chunk, query_chunk):
    generator = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(50, 5, generator=generator), torch.randn(37, 5, generator=generator)
    table = torch.nn.functional.cosine_similarity(queries[:, None], bank[None], dim=2)
    monkeypatch.setattr(knn, "BANK_CHUNK", bank_chunk)
    monkeypatch.setattr(knn, "QUERY_CHUNK", query_chunk)
    similarities, indices = nearest_neighbors(bank, queries, 11, CPU)
    assert torch.equal(indices, table.argsort(dim=1, descending=True)[:, :11])
    torch.testing.assert_close(similarities, table.gather(1, indices))


def test_storage_in_fp16_changes_few_neighbors():
    generator = torch.Generator().manual_seed(3)
    bank, queries = torch.randn(2000, 64, generator=generator), torch.randn(200, 64, generator=generator)
    exact, found = (
        nearest_neighbors(b, q, 20, CPU) for b, q in ((bank, queries), (bank.half(), queries.half()))
    )
    torch.testing.assert_close(found[0], exact[0], rtol=0, atol=5e-4)
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(exact[1].tolist(), found[1].tolist(), strict=True)]
    assert sum(shared) / len(shared) > 0.99


def test_small_temperatures_do_not_overflow():
    assert accuracy(BANK, LABELS, at(0), torch.tensor([0]), k=4, temperature=1e-4) == 100


def test_each_metric_uses_its_own_features_and_the_protocol_says_how(context):
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    apart = torch.eye(3)[labels] + 0.01 * noise
    built = context(train=FeatureSet(noise, apart, labels), val=FeatureSet(noise.flip(1), apart, labels))
    numbers = KNN([1, 5], 0.07, None, None)(built)
    assert list(numbers) == ["mean_k1", "mean_k5", "pooled_k1", "pooled_k5"]
    assert numbers["mean_k1"] == numbers["mean_k5"] == 100
    assert max(numbers["pooled_k1"], numbers["pooled_k5"]) < 70
    assert built.protocol == {"k": [1, 5], "temperature": 0.07, "train_images": 60, "val_images": 60}


@pytest.mark.parametrize(
    ("ks", "temperature", "limits", "message"),
    [
        ([], 0.07, (None, None), r"ks=\[\]"),
        ([5, 0], 0.07, (None, None), r"ks=\[5, 0\]"),
        ([1], 0.0, (None, None), "temperature=0"),
        ([1], 0.07, (0, None), "num_train=0"),
    ],
)
def test_invalid_settings_raise(ks, temperature, limits, message):
    with pytest.raises(ConfigError, match=rf"^{message}.*; try "):
        KNN(ks, temperature, *limits)
