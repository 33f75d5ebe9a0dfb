"""Low-shot classification: random draws of labeled images, and the resulting accuracy."""

import statistics

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import FeatureSet
from cim_lightning.evaluation.lowshot import LowShot, draw_per_class

LABELS = torch.tensor([0] * 10 + [1] * 40 + [4] * 1)


@pytest.mark.parametrize(
    ("size", "counts"),
    [(1, (1, 1, 1)), (3, (3, 3, 1)), (50, (10, 40, 1)), (0.1, (1, 4, 1)), (1.0, (10, 40, 1))],
)
def test_images_are_drawn_class_by_class(size, counts):
    indices = draw_per_class(LABELS, size, torch.Generator().manual_seed(0))
    assert len(indices.unique()) == len(indices)
    assert tuple(int((LABELS[indices] == label).sum()) for label in (0, 1, 4)) == counts


def test_another_seed_draws_other_images():
    draws = [draw_per_class(LABELS, 5, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


SETTINGS = {
    "features": "mean",
    "shares": [0.1],
    "shots": [1, 20],
    "draws": 4,
    "penalty": 0.01,
    "num_train": None,
    "num_val": None,
}


def clouds(seed: int, count: int) -> FeatureSet:
    """Three overlapping classes in the mean features, none in the pooled features."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    x, noise = torch.randn(2, count, 6, generator=generator)
    return FeatureSet(noise, torch.eye(3, 6)[labels] * 2 + x, labels)


def test_accuracy_is_the_mean_over_draws_and_rises_with_labels(context):
    built = context(train=clouds(0, 201), val=clouds(1, 99))
    numbers = LowShot(**SETTINGS)(built)
    images = {"train_images": 201, "val_images": 99}
    assert built.protocol == {"features": "mean", "draws": 4, "penalty": 0.01, **images}
    names = ["mean_10_percent", "mean_1_per_class", "mean_20_per_class"]
    assert list(numbers) == [name + end for name in names for end in ("", "_deviation")]
    assert 100 / 3 < numbers["mean_1_per_class"] < numbers["mean_20_per_class"] < 100
    singles = []
    for built.seed in range(4):
        alone = LowShot(**SETTINGS | {"draws": 1, "shares": [], "shots": [1]})(built)
        singles.append(alone["mean_1_per_class"])
    assert numbers["mean_1_per_class"] == pytest.approx(statistics.fmean(singles))
    assert numbers["mean_1_per_class_deviation"] == pytest.approx(statistics.pstdev(singles))


@pytest.mark.parametrize(("features", "low", "high"), [("mean", 70, 100), ("pooled", 20, 47)])
def test_the_features_are_those_of_the_setting(context, features, low, high):
    built = context(train=clouds(0, 300), val=clouds(1, 300))
    settings = SETTINGS | {"features": features, "shares": [1.0], "shots": [], "draws": 1}
    numbers = LowShot(**settings)(built)
    assert low < numbers[f"{features}_100_percent"] < high
    assert built.protocol["features"] == features


def test_shuffled_labels_give_chance(context):
    train, val = clouds(0, 300), clouds(1, 600)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    built = context(train=train._replace(labels=train.labels[order]), val=val)
    numbers = LowShot(**SETTINGS | {"shares": [], "shots": [50]})(built)
    assert abs(numbers["mean_50_per_class"] - 100 / 3) < 7


@pytest.mark.parametrize(
    "changes",
    [{"shares": [0.0]}, {"shares": [1.5]}, {"shots": [0]}, {"draws": 0}, {"penalty": -1.0}, {"num_val": 0}],
)
def test_invalid_settings_raise(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=rf"^{name}=.*; try {name}="):
        LowShot(**SETTINGS | changes)


def test_unknown_features_raise():
    with pytest.raises(ConfigError, match=r"^features=cls: must be one of mean, pooled; "):
        LowShot(**SETTINGS | {"features": "cls"})
