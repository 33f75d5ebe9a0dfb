"""The line that a mistake gets; tests/test_cli.py has whole ones."""

import pytest

from cim_lightning import mistakes


@pytest.mark.parametrize(
    ("given", "choices", "expected"),
    [
        ("resnet5O", ["resnet18", "resnet50", "swin"], "nearest: resnet50"),
        ("zzz", ["b", "a"], "choices: a, b"),
    ],
)
def test_the_nearest_choice_is_named_or_all_are(given, choices, expected):
    assert mistakes.nearest(given, choices) == expected
