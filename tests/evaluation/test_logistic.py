"""Logistic regression: known optima."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.evaluation import logistic
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.logistic import LogisticRegression, fit_head, fit_weights
from cim_lightning.evaluation.standardized import StandardizedFeatures
from cim_lightning.models.timm_backbone import TimmBackbone


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
    data = StandardizedFeatures(x, y, torch.zeros(4), torch.ones(4))
    weights = fit_weights(data, 3, penalty=0.1, steps=100).requires_grad_()
    with_ones = torch.cat((x, torch.ones(60, 1)), dim=1)
    loss = F.cross_entropy(with_ones @ weights, y) + 0.05 * weights[:-1].square().sum()
    loss.backward()
    assert weights.grad.abs().max() < 1e-3
    assert weights.abs().max() > 0.05


def test_chunks_and_shares_of_one_class_do_not_change_the_optimum(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.randint(0, 3, (60,), generator=generator)
    expected = fit_head(x, y, 3, 0.1, 100)
    shares = fit_head(x, F.one_hot(y, 3).float(), 3, 0.1, 100)
    monkeypatch.setattr(logistic, "CHUNK", 7)
    chunked = fit_head(x, y, 3, 0.1, 100)
    for head in (shares, chunked):
        torch.testing.assert_close(head(x), expected(x), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("features", ["mean", "pooled"])
def test_the_classifier_of_images_uses_the_features_of_the_setting(context, features):
    images = torch.rand(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    built = context(data=SimpleNamespace(splits=SimpleNamespace(train=SimpleNamespace(classes=None))))
    torch.manual_seed(0)
    backbone = built.backbone = TimmBackbone("test_vit", {"dynamic_img_size": True}).eval()
    with torch.no_grad():
        output = backbone(backbone.normalize(images))
    x = output.get(features)[:, 0]
    labels = (x > x.median()).long()
    noise = torch.randn(output.pooled.shape, generator=torch.Generator().manual_seed(1))
    stored = {"pooled": noise, "mean": noise} | {features: output.get(features)}
    built._features["train", None, 1] = FeatureSet(labels=labels, **stored)
    classifier = LogisticRegression(features, None, weight_decay=1e-4, steps=200)(built)
    with torch.no_grad():
        accuracy = 100 * (classifier(images).argmax(dim=1) == labels).float().mean()
    assert accuracy >= 95
