"""Low-shot classification: random draws of labeled images, and the resulting accuracy."""

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


def test_accuracy_is_the_mean_over_draws_and_rises_with_labels(context):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    x = torch.eye(3, 6)[labels] * 2 + torch.randn(300, 6, generator=generator)
    train, val = FeatureSet(x[:200], x[:200], labels[:200]), FeatureSet(x[200:], x[200:], labels[200:])
    numbers = LowShot([0.1], [1, 20], draws=4, penalty=0.01, num_train=None, num_val=None)(
        context(train=train, val=val)
    )
    names = ["0.1_of_all", "1_a_class", "20_a_class"]
    assert list(numbers) == [name + end for name in names for end in ("", "_deviation")]
    assert 1 / 3 < numbers["1_a_class"] < numbers["20_a_class"] < 1
    assert numbers["1_a_class_deviation"] > 0


@pytest.mark.parametrize(
    "changes", [{"shares": [0.0]}, {"shares": [1.5]}, {"shots": [0]}, {"draws": 0}, {"penalty": -1.0}]
)
def test_invalid_settings_raise(changes):
    settings = {"shares": [0.1], "shots": [1], "draws": 1, "penalty": 0.0, "num_train": None, "num_val": None}
    (name,) = changes
    with pytest.raises(ConfigError, match=rf"^{name}=.*; try {name}="):
        LowShot(**settings | changes)
