"""Standardized features: statistics, accuracy by hand, and fp16 storage."""

import pytest
import torch

from cim_lightning.evaluation import standardized
from cim_lightning.evaluation.standardized import StandardizedFeatures, accuracies, standardize


def test_the_statistics_are_those_of_the_given_features():
    train, val = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[5.0, 5.0]])
    data = standardize(train, torch.tensor([0, 1]))
    assert data.read(slice(None)).tolist() == [[-1, 0, 1], [1, 0, 1]]
    assert data.read(torch.tensor([1])).tolist() == [[1, 0, 1]]
    assert data.like(val, torch.tensor([0])).read(slice(None)).tolist() == [[3, 0, 1]]


def test_chunks_do_not_change_the_statistics(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = 1000 + torch.randn(103, 4, generator=generator).cumsum(dim=0)  # a drift and a large mean
    monkeypatch.setattr(standardized, "CHUNK", 10)
    data = standardize(x, torch.zeros(103, dtype=torch.int64))
    torch.testing.assert_close(data.mean, x.mean(dim=0))
    torch.testing.assert_close(data.deviation, x.std(dim=0, correction=0))


def test_accuracies_are_counted_by_hand(monkeypatch):
    weights = torch.tensor([[[1.0, -1.0], [0.0, 0.0]], [[-1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    x, y = torch.tensor([[1.0], [2.0], [-3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    data = StandardizedFeatures(x, y, torch.zeros(1), torch.ones(1))
    for chunk in (1, 3, 99):
        monkeypatch.setattr(standardized, "CHUNK", chunk)
        assert accuracies(weights, data).tolist() == [75, 25, 50]
        assert accuracies(weights, data, torch.tensor([3, 0])).tolist() == [50, 50, 50]


def test_features_in_fp16_are_standardized_in_fp32():
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0, 0.01]) + 5
    y = torch.zeros(1000, dtype=torch.int64)
    half, full = standardize(x.half(), y), standardize(x.half().float(), y)
    assert half.features.dtype == torch.float16
    assert half.read(slice(None)).dtype == torch.float32
    torch.testing.assert_close(half.read(slice(None)), full.read(slice(None)), rtol=0, atol=0)
    # Rounding to fp16 moves a feature of 5 by at most 2 ** -9.
    error = (half.read(slice(None)) - standardize(x, y).read(slice(None))).abs().max(dim=0).values
    assert error[0] < 2**-8
    assert error[2] == pytest.approx(2**-9 / 0.01, rel=0.5)  # a deviation of 0.01 around 5 is too small
