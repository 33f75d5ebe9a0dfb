"""Logistic regression: known optima."""

import math

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.evaluation.linear import append_ones
from cim_lightning.evaluation.logistic import fit_head, fit_weights


def test_separable_features_are_all_classified():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = 5 + 0.01 * torch.eye(3)[labels] + 0.001 * torch.randn(90, 3, generator=generator)
    head = fit_head(features, labels, 3, 1e-4, 100)
    assert (head(features).argmax(dim=1) == labels).all()
    assert not head.weight.requires_grad


def test_odds_equal_the_observed_frequencies():
    # One feature that is 0 or 1. Without decay, the logits reproduce the shares 3/4 and 1/5 of class 1.
    features = torch.tensor([[0.0]] * 4 + [[1.0]] * 5)
    labels = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0])
    logits = fit_head(features, labels, 2, 0.0, 200)(torch.tensor([[0.0], [1.0]]))
    odds = (logits[:, 1] - logits[:, 0]).tolist()
    assert odds == pytest.approx([math.log(3), math.log(1 / 4)], abs=1e-3)


def test_weight_decay_is_invariant_to_the_scale_of_a_feature():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 3, generator=generator)
    labels = (features[:, 0] > 0).long()
    unit = torch.tensor([1.0, 100.0, 0.01])
    head = fit_head(features, labels, 2, 0.1, 100)
    scaled = fit_head(features * unit + 3, labels, 2, 0.1, 100)
    torch.testing.assert_close(head(features), scaled(features * unit + 3), atol=1e-3, rtol=1e-3)


def test_the_gradient_is_zero_at_the_optimum():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.randint(0, 3, (60,), generator=generator)
    weights = fit_weights(x, y, 3, penalty=0.1, steps=100).requires_grad_()
    loss = F.cross_entropy(append_ones(x) @ weights, y) + 0.05 * weights[:-1].square().sum()
    loss.backward()
    assert weights.grad.abs().max() < 1e-3
    assert weights.abs().max() > 0.05
