"""The linear probe: steps by hand, chance level, and no tuning on the validation images."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation import linear
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.linear import LinearProbe
from cim_lightning.evaluation.standardized import StandardizedFeatures, accuracies, standardize

SETTINGS = {
    "epochs": 40,
    "batch_size": 32,
    "weight_decay": 0.0,
    "val_fraction": 0.2,
    "layers": 1,
    "num_train": None,
    "num_val": None,
}
CPU = torch.device("cpu")


def probe(**changes) -> LinearProbe:
    return LinearProbe(**{"lrs": [0.01, 0.1]} | SETTINGS | changes)


def clouds(n: int, seed: int, shuffled: bool = False) -> FeatureSet:
    """Three well-separated classes in five dimensions with very different scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centers = torch.eye(3, 5) * 10
    x = (centers[labels] + torch.randn(n, 5, generator=generator)) * torch.tensor([1, 1000, 0.01, 1, 1])
    if shuffled:
        labels = labels[torch.randperm(n, generator=generator)]
    return FeatureSet(x, x, labels)


def as_they_are(x: torch.Tensor, y: torch.Tensor) -> StandardizedFeatures:
    return StandardizedFeatures(x, y, torch.zeros(x.shape[1]), torch.ones(x.shape[1]))


def test_separable_features_give_100_percent():
    accuracy, _, held_out_accuracy = probe().probe(clouds(200, 0), clouds(100, 1), "mean", CPU, 0)
    assert accuracy == held_out_accuracy == 100


def test_shuffled_labels_give_chance():
    train, val = clouds(300, 0, shuffled=True), clouds(600, 1, shuffled=True)
    accuracy, _, _ = probe().probe(train, val, "mean", CPU, 0)
    assert abs(accuracy - 100 / 3) < 10


def test_the_learning_rate_with_the_best_held_out_accuracy_is_used():
    def difference(seed: int) -> FeatureSet:
        """Classes differ in the difference of two noisy coordinates; tiny learning rates do not find it."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(200) % 2
        noise = 2 * torch.randn(200, 1, generator=generator)
        x = torch.cat((noise + labels[:, None], noise), dim=1)
        x += 0.1 * torch.randn(200, 2, generator=generator)
        return FeatureSet(x, x, labels)

    accuracy, lr, _ = probe(lrs=[1e-9, 0.3, 1e-8]).probe(difference(0), difference(1), "mean", CPU, 0)
    assert lr == 0.3
    assert accuracy > 95


def test_the_learning_rate_does_not_depend_on_the_validation_images():
    train = clouds(200, 0)
    correct, wrong = clouds(100, 1), clouds(100, 1, shuffled=True)
    chosen = [probe().probe(train, val, "mean", CPU, 0)[1:] for val in (correct, wrong)]
    assert chosen[0] == chosen[1]


def test_classifiers_trained_together_equal_those_trained_alone():
    train = clouds(50, 0)
    data, rows = standardize(train.mean, train.labels), torch.arange(50)
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    together = probe().fit(data, rows, 3, [0.01, 0.1], generators[0])
    for i, lr in enumerate((0.01, 0.1)):
        alone = probe().fit(data, rows, 3, [lr], generators[i + 1])
        torch.testing.assert_close(together[i], alone[0])


def test_only_the_given_rows_are_trained_on():
    train = clouds(60, 0)
    data, rows = standardize(train.mean, train.labels), torch.arange(5, 45)
    part = replace(data, features=data.features[rows], labels=data.labels[rows])
    weights = [
        probe().fit(*given, 3, [0.1], torch.Generator().manual_seed(4))
        for given in ((data, rows), (part, torch.arange(40)))
    ]
    torch.testing.assert_close(*weights)


def test_one_step_follows_the_gradient_computed_by_hand():
    # Two points with one coordinate, one per class; at zero weights every softmax output is a half.
    data = as_they_are(torch.tensor([[2.0], [-4.0]]), torch.tensor([0, 1]))
    trained = probe(epochs=1, batch_size=2, weight_decay=0.5)
    weights = trained.fit(data, torch.arange(2), 2, [0.1], torch.Generator())
    # The gradient is the mean of x times (softmax - one-hot); this is that of class 0.
    slope = (2 * (0.5 - 1) + -4 * 0.5) / 2
    bias = ((0.5 - 1) + 0.5) / 2
    expected = -0.1 * torch.tensor([[[slope, -slope], [bias, -bias]]])
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_four_steps_of_sgd_with_momentum_and_a_cosine_schedule(weight_decay):
    """The weights of four steps on all points, from the formulas of SGD, momentum and the cosine."""
    x, y = np.array([[2.0, 1.0], [-4.0, 1.0], [1.0, 1.0]]), np.array([0, 1, 1])  # the last column: bias
    weights, velocity = np.zeros((2, 2)), np.zeros((2, 2))
    for rate in (0.1, 0.1 * (2 + math.sqrt(2)) / 4, 0.05, 0.1 * (2 - math.sqrt(2)) / 4):
        shares = np.exp(x @ weights) / np.exp(x @ weights).sum(axis=1, keepdims=True)
        gradient = x.T @ (shares - np.eye(2)[y]) / 3 + weight_decay * weights
        velocity = 0.9 * velocity + gradient
        weights = weights - rate * velocity
    trained = probe(epochs=4, batch_size=3, weight_decay=weight_decay)
    data = as_they_are(torch.tensor(x[:, :1]).float(), torch.tensor(y))
    found = trained.fit(data, torch.arange(3), 2, [0.1], torch.Generator())
    np.testing.assert_allclose(found[0].numpy(), weights, rtol=1e-5)


def test_training_follows_the_gradient_of_cross_entropy():
    train = clouds(32, 0)
    data = standardize(train.mean, train.labels)
    trained = probe(epochs=1, batch_size=32, weight_decay=0.1)
    weights = trained.fit(data, torch.arange(32), 3, [0.7], torch.Generator())
    layer = torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.7, momentum=0.9, weight_decay=0.1)
    x = (train.mean - train.mean.mean(dim=0)) / train.mean.std(dim=0, correction=0)
    torch.nn.functional.cross_entropy(layer(x), train.labels).backward()
    optimizer.step()
    torch.testing.assert_close(weights[0, :-1], layer.weight.detach().T)
    torch.testing.assert_close(weights[0, -1], layer.bias.detach())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lrs", []),
        ("lrs", [0.1, -1.0]),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
        ("epochs", 0),
        ("layers", 0),
        ("weight_decay", -1.0),
        ("num_train", 1),
        ("num_val", 0),
    ],
)
def test_invalid_settings_raise(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}=.*; try {name}=") as caught:
        probe(**{name: value})
    assert "\n" not in str(caught.value)


def test_the_final_classifier_is_trained_on_all_images_and_the_candidates_not_on_the_held_out(monkeypatch):
    rows_of = []
    fit = LinearProbe.fit

    def record(self, data, rows, classes, lrs, generator):
        rows_of.append((sorted(rows.tolist()), lrs))
        return fit(self, data, rows, classes, lrs, generator)

    monkeypatch.setattr(LinearProbe, "fit", record)
    held_out = []

    def measured(weights, data, rows=None):
        held_out.append(None if rows is None else rows.tolist())
        return accuracies(weights, data, rows)

    monkeypatch.setattr(linear, "accuracies", measured)
    probe(epochs=1).probe(clouds(50, 0), clouds(20, 1), "mean", CPU, 0)
    (rest, lrs), (all_rows, chosen) = rows_of
    assert (lrs, len(chosen), len(rest), held_out[1]) == ([0.01, 0.1], 1, 40, None)
    assert all_rows == sorted(rest + held_out[0]) == list(range(50))


@pytest.mark.parametrize("features", ["mean", "pooled"])
def test_each_metric_uses_its_own_features(context, features):
    train, val = (clouds(n, n) for n in (200, 100))
    noise = [part._replace(pooled=torch.randn_like(part.mean)) for part in (train, val)]
    noise = [part._replace(mean=torch.randn_like(part.mean)) for part in noise]
    one = [other._replace(**{features: part.mean}) for part, other in zip((train, val), noise, strict=True)]
    built = context(train=one[0], val=one[1])
    built._features |= {("train", None, 4): noise[0], ("val", None, 4): noise[1]}
    numbers = probe(layers=4)(built)
    assert list(numbers) == ["mean", "pooled", "mean_last_4", "pooled_last_4"]
    assert numbers.pop(features) == 100
    assert max(numbers.values()) < 60


def test_the_protocol_has_the_chosen_learning_rates_and_their_held_out_accuracy(context):
    built = context(train=clouds(200, 0), val=clouds(100, 1))
    numbers = probe(lrs=[0.1])(built)
    assert numbers == {"mean": 100, "pooled": 100}
    assert built.protocol == {
        "lr": {"mean": 0.1, "pooled": 0.1},
        "held_out_accuracy": {"mean": 100, "pooled": 100},
        "epochs": 40,
        "batch_size": 32,
        "weight_decay": 0.0,
        "train_images": 200,
        "val_images": 100,
    }


def test_each_number_of_layers_needs_one_pass_over_the_images(context):
    splits = SimpleNamespace(train=range(50), val=range(20))
    built = context(data=SimpleNamespace(splits=splits))
    assert probe(num_train=30).forward_passes(built) == 50
    assert probe(num_train=30, layers=3).forward_passes(built) == 100
