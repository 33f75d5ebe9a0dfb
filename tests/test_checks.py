"""Every check accepts its limits, rejects values just outside, and suggests a valid value."""

import math
import pickle

import pytest

from cim_lightning import checks
from cim_lightning.errors import ConfigError

CHECKS = {  # name -> check, valid values, invalid values
    "at_least": (
        lambda v: checks.check_at_least("x", v, 1),
        [1, 2, None],
        [0, 0.999, -3, math.nan, math.inf],
    ),
    "above": (
        lambda v: checks.check_above("x", v, 0, suggest=0.5),
        [1e-9, 2, None],
        [0, -1, math.nan, math.inf],
    ),
    "within": (lambda v: checks.check_within("x", v, -1, 180), [-1, 0, 180, None], [-1.5, 180.5, math.nan]),
    "share": (lambda v: checks.check_share("x", v), [0, 1, 0.5, None], [-0.1, 1.1, math.nan]),
    "share below 1": (
        lambda v: checks.check_share("x", v, one=False),
        [0, 0.99, None],
        [-0.1, 1, 1.1, math.nan],
    ),
    "share above 0": (
        lambda v: checks.check_share("x", v, zero=False),
        [0.01, 1, None],
        [0, -1, 1.1, math.nan],
    ),
    "each at least": (
        lambda v: checks.check_each_at_least("x", v, 1, suggest=[20]),
        [[1], [5, 1]],
        [[], [0, 2], [2, math.nan], [math.inf]],
    ),
    "each above": (
        lambda v: checks.check_each_above("x", v, 0, suggest=[0.1]),
        [[1e-9], [5, 1]],
        [[], [2, 0], [math.nan, 2], [math.inf]],
    ),
    "each within": (
        lambda v: checks.check_each_within("x", v, 0, 255),
        [[], [0, 255]],
        [[1, -1], [256, 3], [math.nan], [math.inf, 1]],
    ),
    "inside": (
        lambda v: checks.check_share("x", v, zero=False, one=False),
        [0.5, None],
        [0, 1, -1, 2, math.nan],
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_bounds_and_suggestions_are_valid(name):
    check, valid, invalid = CHECKS[name]
    for value in valid:
        check(value)
    for value in invalid:
        with pytest.raises(ConfigError, match=r"^x=[^\n]*: must be [^\n]*; try x=") as caught:
            check(value)
        check(caught.value.suggest)


def test_one_of_suggests_the_closest_choice_or_lists_all():
    checks.check_one_of("reduction", "sum", ("sum", "mean"))
    with pytest.raises(ConfigError, match=r"^reduction=summ: must be one of sum, mean; did you mean sum\?$"):
        checks.check_one_of("reduction", "summ", ("sum", "mean"))
    with pytest.raises(ConfigError, match=r"choose from mean, sum$"):
        checks.check_one_of("reduction", "xyz", ("sum", "mean"))


def test_divides_suggests_the_nearest_divisor():
    for value in (1, 2, 3, 6):
        checks.check_divides("n", value, 12, "must divide 12", parts=2)
    for value, suggestion in ((12, 6), (5, 6), (0, 1), (-3, 1), (100, 6)):
        with pytest.raises(ConfigError, match=rf"^n={value}: must divide 12; try n={suggestion}$"):
            checks.check_divides("n", value, 12, "must divide 12", parts=2)
    checks.check_divides("n", 12, 12, "must divide 12")


@pytest.mark.parametrize("value", [[0, 1], [0.5, 0.4], [0.5], [0.1, 0.2, 0.3], [0.5, 1.5]])
def test_ordered_rejects_values_that_are_not_a_range(value):
    with pytest.raises(ConfigError, match=r"two numbers with 0 < low <= high <= 1; try scale=\[0.5, 1.0\]$"):
        checks.check_ordered("scale", value, high=1, suggest=[0.5, 1.0])


def test_ordered_returns_the_two_numbers():
    assert checks.check_ordered("scale", [1, 1], high=1, suggest=[0.5, 1.0]) == (1.0, 1.0)


def test_an_error_can_be_pickled_and_named_by_its_path():
    error = ConfigError("depth", 0, "must be at least 1", suggest=1)
    assert str(error) == "depth=0: must be at least 1; try depth=1"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(ConfigError("x", [None, True, 0.5], "no")) == "x=[null, true, 0.5]: no"


def test_a_hint_lists_the_first_names_of_many():
    names = [f"model_{n:03}" for n in range(1300)]
    hint = checks.did_you_mean("3", names)
    assert hint == f"choose from {', '.join(names[:40])}, ... (1300 in all)"
    assert checks.did_you_mean("x", ["a", "b"]) == "choose from a, b"
