"""The line that a mistake gets; tests/test_cli.py has whole ones."""

import sys

import pytest

from cim_lightning import mistakes
from cim_lightning.errors import SettingError


@pytest.mark.parametrize(
    ("given", "choices", "expected"),
    [
        ("resnet5O", ["resnet18", "resnet50", "swin"], "nearest: resnet50"),
        ("zzz", ["b", "a"], "choices: a, b"),
    ],
)
def test_the_nearest_choice_is_named_or_all_are(given, choices, expected):
    assert mistakes.nearest(given, choices) == expected


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["evaluation.finetune.classifier.optim.lr=-1"], "evaluation.finetune.classifier.optim.lr=-1: no"),
        (["evaluation.a.optim.lr=-1", "evaluation.b.optim.lr=1"], "optim.lr=-1: no"),  # which of the two?
        (["optim.lr=-1"], "optim.lr=-1: no"),
        (["evaluation.b.no_optim.lr=-1"], "optim.lr=-1: no"),
    ],
)
def test_a_setting_is_named_as_it_was_typed_where_that_is_clear(typed, told, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cim-evaluate", "seed=1", *typed])
    assert mistakes.explain(SettingError("optim.lr=-1: no"), "evaluate") == told
