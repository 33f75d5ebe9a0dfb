"""Settings of evaluators that a command does not run."""

import re

import pytest
from omegaconf import OmegaConf

from cim_lightning.config.unused_evaluators import drop_unused
from cim_lightning.errors import ConfigError


def test_settings_of_a_recipe_for_other_evaluators_are_dropped():
    evaluators = OmegaConf.create({"knn": {"_target_": "x", "ks": [1]}, "linear": {"epochs": 3}})
    drop_unused(evaluators, ["evaluation.knn.ks=[1]"])
    assert evaluators == {"knn": {"_target_": "x", "ks": [1]}}


@pytest.mark.parametrize("override", ["+evaluation.linear.epochs=3", "+evaluation.linear={epochs: 3}"])
def test_settings_on_the_command_line_for_other_evaluators_are_refused(override):
    with pytest.raises(ConfigError, match=rf"^{re.escape(override)}: linear is not evaluated; try"):
        drop_unused(OmegaConf.create({"linear": {"epochs": 3}}), [override])


def test_a_removed_evaluator_is_no_error():
    drop_unused(OmegaConf.create({"linear": {"epochs": 3}}), ["~evaluation.linear"])


def test_null_switches_an_evaluator_off_and_other_values_are_left_to_the_checks():
    evaluators = OmegaConf.create({"knn": None, "linear": 3})
    drop_unused(evaluators, ["evaluation.knn=null", "evaluation.linear=3"])
    assert evaluators == {"linear": 3}
