"""The line that a mistake gets; tests/test_cli.py has whole ones."""

import pytest
from omegaconf import OmegaConf

from cim_lightning.config import messages
from cim_lightning.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "choices", "expected"),
    [
        ("resnet5O", ["resnet18", "resnet50", "swin"], "try resnet50"),
        ("zzz", ["b", "a"], "choices: a, b"),
    ],
)
def test_the_nearest_choice_is_named_or_all_are(given, choices, expected):
    assert messages.nearest(given, choices) == expected


CFG = OmegaConf.create(
    {
        "decoder": {"depth": 0, "width": 16},
        "method": {"decoder": "${decoder}", "reduction": "sum"},
        "data": {"batch_size": 8, "source": {"val_fraction": 0.1}},
        "evaluation": {"knn": {"k": 1}, "linear": {"batch_size": 0, "optim": {"lr": -1}}},
        "hydra": {"depth": 0},
    }
)


@pytest.mark.parametrize(
    ("parameter", "value", "group", "path"),
    [
        ("depth", 0, "", "decoder.depth"),
        ("depth", 0, "method", "decoder.depth"),  # where the value was set, not where it is used
        ("val_fraction", 0.1, "data", "data.source.val_fraction"),
        ("batch_size", 8, "", "data.batch_size"),
        ("batch_size", 0, "", "evaluation.linear.batch_size"),  # of two, the one with this value
        ("lr", -1, "evaluation.linear", "evaluation.linear.optim.lr"),
        ("lr", -1, "data", "evaluation.linear.optim.lr"),
        ("nothing", 1, "", "nothing"),
    ],
)
def test_a_parameter_is_called_by_the_path_of_its_setting(parameter, value, group, path):
    error = ConfigError(parameter, value, "no", suggest=3)
    error.group = group
    assert messages.explain(error, "evaluate", CFG) == f"{path}={value}: no; try {path}=3"


def test_a_message_without_a_parameter_stays_as_it_is():
    assert messages.explain(ConfigError("data: no labels"), "evaluate", CFG) == "data: no labels"
