"""The linear probe: what is learnable is learned, the rest is chance, and the test set chooses nothing."""

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
    """Three far classes in five dimensions, on scales that differ a thousandfold."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centers = torch.eye(3, 5) * 10
    x = (centers[labels] + torch.randn(n, 5, generator=generator)) * torch.tensor([1, 1000, 0.001, 1, 1])
    if shuffled:
        labels = labels[torch.randperm(n, generator=generator)]
    return FeatureSet(x, x, labels)


def test_separable_features_give_1():
    accuracy, _, held = probe().probe(clouds(200, 0), clouds(100, 1), "mean", CPU, 0)
    assert accuracy == held == 1.0


def test_shuffled_labels_give_chance():
    accuracy, _, _ = probe().probe(
        clouds(300, 0, shuffled=True), clouds(600, 1, shuffled=True), "mean", CPU, 0
    )
    assert abs(accuracy - 1 / 3) < 0.1


def test_the_rate_that_does_best_held_out_is_taken():
    def hidden(
        seed: int,
    ) -> FeatureSet:  # in the difference of two noisy coordinates: one step does not see it
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(200) % 2
        noise = 2 * torch.randn(200, 1, generator=generator)
        x = torch.cat((noise + labels[:, None], noise), dim=1) + 0.1 * torch.randn(
            200, 2, generator=generator
        )
        return FeatureSet(x, x, labels)

    accuracy, rate, _ = probe(lrs=[1e-9, 0.3, 1e-8]).probe(hidden(0), hidden(1), "mean", CPU, 0)
    assert rate == 0.3
    assert accuracy > 0.95


def test_the_choice_does_not_look_at_the_validation_images():
    train = clouds(200, 0)
    right, wrong = clouds(100, 1), clouds(100, 1, shuffled=True)
    chosen = [probe().probe(train, val, "mean", CPU, 0)[1:] for val in (right, wrong)]
    assert chosen[0] == chosen[1]


def test_classifiers_of_several_rates_are_those_trained_alone():
    train = clouds(50, 0)
    x, _ = standardized(train.mean, train.mean)
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    together = probe().fit(x, train.labels, 3, [0.01, 0.1], generators[0])
    for i, rate in enumerate((0.01, 0.1)):
        alone = probe().fit(x, train.labels, 3, [rate], generators[i + 1])
        torch.testing.assert_close(together[i], alone[0])


def test_one_step_is_the_gradient_worked_by_hand():
    # Two points of one coordinate, one class each; from zero weights every softmax is a half.
    x, y = torch.tensor([[2.0], [-4.0]]), torch.tensor([0, 1])
    weights = probe(epochs=1, batch_size=2, weight_decay=0.5).fit(x, y, 2, [0.1], torch.Generator())
    slope = (2 * (0.5 - 1) + -4 * 0.5) / 2  # of the weight of class 0: mean of x times (softmax - one-hot)
    bias = ((0.5 - 1) + 0.5) / 2
    expected = -0.1 * torch.tensor([[[slope, -slope], [bias, -bias]]])
    torch.testing.assert_close(weights, expected)


def test_training_follows_the_gradient_of_torchs_own_cross_entropy():
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


def test_standardising_uses_the_training_features_alone():
    train, other = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[5.0, 5.0]])
    x, queries = standardized(train, other)
    assert x.tolist() == [[-1, 0], [1, 0]]
    assert queries.tolist() == [[3, 0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"lrs": []},
        {"lrs": [0.1, -1.0]},
        {"val_fraction": 0.0},
        {"val_fraction": 1.0},
        {"epochs": 0},
        {"layers": 0},
    ],
)
def test_nonsense_settings_get_one_line(changes):
    with pytest.raises(ConfigError, match=r"^evaluation\.linear.*try") as caught:
        probe(**changes)
    assert "\n" not in str(caught.value)


def test_the_mean_of_the_last_layers_stands_beside_the_last(context):
    one = context(train=clouds(200, 0), val=clouds(100, 1))
    shuffled = {"train": clouds(200, 2, shuffled=True), "val": clouds(100, 3, shuffled=True)}
    one._features |= {(split, None, 4): features for split, features in shuffled.items()}
    numbers = probe(layers=4)(one)
    assert numbers["mean"] == numbers["pooled"] == 1
    assert numbers["mean_last_4"] < 0.6 > numbers["pooled_last_4"]
    assert {key: numbers[key] for key in probe()(one)} == probe()(one)
