"""The linear probe: closed forms, chance level, and no tuning on the validation images."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.linear import LinearProbe, accuracies, standardized

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
    x = (centers[labels] + torch.randn(n, 5, generator=generator)) * torch.tensor([1, 1000, 0.001, 1, 1])
    if shuffled:
        labels = labels[torch.randperm(n, generator=generator)]
    return FeatureSet(x, x, labels)


def test_separable_features_give_1():
    accuracy, _, val_accuracy = probe().probe(clouds(200, 0), clouds(100, 1), "mean", CPU, 0)
    assert accuracy == val_accuracy == 1.0


def test_shuffled_labels_give_chance():
    accuracy, _, _ = probe().probe(
        clouds(300, 0, shuffled=True), clouds(600, 1, shuffled=True), "mean", CPU, 0
    )
    assert abs(accuracy - 1 / 3) < 0.1


def test_the_learning_rate_with_the_best_held_out_accuracy_is_used():
    def difference(seed: int) -> FeatureSet:
        """Classes differ in the difference of two noisy coordinates; tiny learning rates do not find it."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(200) % 2
        noise = 2 * torch.randn(200, 1, generator=generator)
        x = torch.cat((noise + labels[:, None], noise), dim=1) + 0.1 * torch.randn(
            200, 2, generator=generator
        )
        return FeatureSet(x, x, labels)

    accuracy, lr, _ = probe(lrs=[1e-9, 0.3, 1e-8]).probe(difference(0), difference(1), "mean", CPU, 0)
    assert lr == 0.3
    assert accuracy > 0.95


def test_the_learning_rate_does_not_depend_on_the_validation_images():
    train = clouds(200, 0)
    correct, wrong = clouds(100, 1), clouds(100, 1, shuffled=True)
    chosen = [probe().probe(train, val, "mean", CPU, 0)[1:] for val in (correct, wrong)]
    assert chosen[0] == chosen[1]


def test_classifiers_trained_together_equal_those_trained_alone():
    train = clouds(50, 0)
    x, _ = standardized(train.mean, train.mean)
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    together = probe().fit(x, train.labels, 3, [0.01, 0.1], generators[0])
    for i, lr in enumerate((0.01, 0.1)):
        alone = probe().fit(x, train.labels, 3, [lr], generators[i + 1])
        torch.testing.assert_close(together[i], alone[0])


def test_one_step_follows_the_gradient_computed_by_hand():
    # Two points with one coordinate, one per class; at zero weights every softmax output is a half.
    x, y = torch.tensor([[2.0], [-4.0]]), torch.tensor([0, 1])
    weights = probe(epochs=1, batch_size=2, weight_decay=0.5).fit(x, y, 2, [0.1], torch.Generator())
    # The gradient is the mean of x times (softmax - one-hot); this is that of class 0.
    slope = (2 * (0.5 - 1) + -4 * 0.5) / 2
    bias = ((0.5 - 1) + 0.5) / 2
    expected = -0.1 * torch.tensor([[[slope, -slope], [bias, -bias]]])
    torch.testing.assert_close(weights, expected)


def test_training_follows_the_gradient_of_cross_entropy():
    train = clouds(32, 0)
    x, _ = standardized(train.mean, train.mean)
    weights = probe(epochs=1, batch_size=32, weight_decay=0.1).fit(
        x, train.labels, 3, [0.7], torch.Generator()
    )
    layer = torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.7, momentum=0.9, weight_decay=0.1)
    torch.nn.functional.cross_entropy(layer(x), train.labels).backward()
    optimizer.step()
    torch.testing.assert_close(weights[0, :-1], layer.weight.detach().T)
    torch.testing.assert_close(weights[0, -1], layer.bias.detach())


def test_accuracies_are_counted_by_hand():
    weights = torch.tensor([[[1.0, -1.0], [0.0, 0.0]], [[-1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    x, y = torch.tensor([[1.0], [2.0], [-3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    assert accuracies(weights, x, y).tolist() == [0.75, 0.25, 0.5]


def test_standardization_uses_the_training_features_only():
    train, val = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[5.0, 5.0]])
    x, val_x = standardized(train, val)
    assert x.tolist() == [[-1, 0], [1, 0]]
    assert val_x.tolist() == [[3, 0]]


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
    ],
)
def test_invalid_settings_raise(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}=.*; try {name}=") as caught:
        probe(**{name: value})
    assert "\n" not in str(caught.value)


def test_a_second_probe_uses_the_mean_of_the_last_layers(context):
    built = context(train=clouds(200, 0), val=clouds(100, 1))
    shuffled = {"train": clouds(200, 2, shuffled=True), "val": clouds(100, 3, shuffled=True)}
    built._features |= {(split, None, 4): features for split, features in shuffled.items()}
    numbers = probe(layers=4)(built)
    assert numbers["mean"] == numbers["pooled"] == 1
    assert numbers["mean_last_4"] < 0.6 > numbers["pooled_last_4"]
    assert {key: numbers[key] for key in probe()(built)} == probe()(built)
    assert {"mean_lr", "mean_val_accuracy", "pooled_last_4_lr"} < numbers.keys()
