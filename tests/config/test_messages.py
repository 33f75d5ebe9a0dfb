"""The path of a setting in the line about a user's error. tests/cli/test_main.py tests whole lines."""

import pytest
from omegaconf import OmegaConf

from cim_lightning.config import messages
from cim_lightning.errors import ConfigError, format_value

CFG = OmegaConf.create(
    {
        "decoder": {"depth": 0, "width": 16},
        "method": {"decoder": "${decoder}", "reduction": "sum"},
        "data": {"batch_size": 8, "source": {"val_fraction": 0.1}},
        "evaluation": {
            "knn": {"k": 1},
            "linear": {"batch_size": 0, "optim": {"lr": -1}},
            "finetune": {"classifier": {"view": {"scale": [2, 1]}}},
        },
        "cropping": {"scale": [2, 1]},
        "optim": {"base_lr": 0.1},
        "hydra": {"depth": 0},
    }
)


@pytest.mark.parametrize(
    ("parameter", "value", "group", "path"),
    [
        ("depth", 0, "", "decoder.depth"),
        ("depth", 0, "method", "decoder.depth"),  # the definition, not its use
        ("val_fraction", 0.1, "data", "data.source.val_fraction"),
        ("batch_size", 8, "", "data.batch_size"),
        ("batch_size", 0, "", "evaluation.linear.batch_size"),  # the one with this value
        ("lr", -1, "evaluation.linear", "evaluation.linear.optim.lr"),
        ("lr", -1, "data", "evaluation.linear.optim.lr"),
        ("scale", [2, 1], "", "cropping.scale"),
        ("scale", [2, 1], "evaluation.finetune", "evaluation.finetune.classifier.view.scale"),
        ("unknown", 1, "", "unknown"),
    ],
)
def test_a_parameter_gets_the_path_of_its_setting(parameter, value, group, path):
    error = ConfigError(parameter, value, "no", suggest=3)
    error.group = group
    assert messages.explain(error, "evaluate", CFG) == f"{path}={format_value(value)}: no; try {path}=3"


def test_a_message_without_a_parameter_stays_unchanged():
    assert messages.explain(ConfigError("data: no labels"), "evaluate", CFG) == "data: no labels"


def test_the_command_line_is_quoted_with_its_last_override():
    error = OSError(13, "Permission denied", "/root/runs/x")
    arguments = ["output_dir=/tmp", "seed=1", "output_dir=/root/runs/x"]
    line = messages.explain(error, "pretrain", CFG, arguments)
    assert line == "output_dir=/root/runs/x: cannot be written (Permission denied); try another output_dir"
    assert messages.explain(error, "pretrain", CFG, ["seed=1"]) is None
