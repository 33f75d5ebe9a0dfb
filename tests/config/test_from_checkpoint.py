"""What an evaluation depends on, and which parts of a recipe it asks for."""

import sys

import pytest
from omegaconf import OmegaConf

from cim_lightning.config.from_checkpoint import decisive, drop_unasked
from cim_lightning.errors import ConfigError


def test_workers_decide_nothing_however_deep():
    few = {"a": {"num_workers": 1, "b": [{"num_workers": 2, "c": 3}]}, "seed": 0}
    assert decisive(few) == {"a": {"b": [{"c": 3}]}, "seed": 0}


def test_what_a_recipe_says_of_other_parts_is_dropped():
    parts = OmegaConf.create({"knn": {"_target_": "x", "ks": [1]}, "linear": {"epochs": 3}})
    drop_unasked(parts)
    assert parts == {"knn": {"_target_": "x", "ks": [1]}}


def test_what_is_typed_of_other_parts_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cim-evaluate", "+evaluation.linear.epochs=3"])
    with pytest.raises(ConfigError, match=r"^\+evaluation\.linear\.epochs=3: no such part is asked for; try"):
        drop_unasked(OmegaConf.create({"linear": {"epochs": 3}}))
