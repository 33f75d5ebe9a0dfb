"""Tests of differences beside arithmetic, a closed form and an integral."""

import math

import numpy as np
import pytest

from cim_lightning.report.comparison import COLUMNS
from cim_lightning.report.runs import read_runs
from cim_lightning.report.significance import against_best, between, paired, welch

KNN = next(column for column in COLUMNS if column.title == "online k-NN after, %")


def outside(t: float, freedom: float) -> float:
    """The chance of a Student's t at least as far from 0: all but the integral of its density."""
    x = np.linspace(-abs(t), abs(t), 200_001)
    density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi * freedom)
    return 1 - scale * float(np.trapezoid(density, x))


def test_paired_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, so t = 2 sqrt(3) with 2 degrees."""
    found = paired([11, 22, 33], [10, 20, 30])
    t = 2 * math.sqrt(3)
    assert found is not None
    assert found[:1] + found[2:] == (2, (3, 3), True)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.text(1) == "+2.0, p = 0.074 (paired, n = 3)"


def test_welch_by_hand():
    """Means 2 and 8.5, their squared errors 1 and 5/12, of 1 and 3 degrees."""
    found = welch([1, 3], [7, 8, 9, 10])
    assert found is not None
    freedom = (17 / 12) ** 2 / (1 + (5 / 12) ** 2 / 3)
    assert found.mean == -6.5
    assert found.n == (2, 4)
    assert found.p == pytest.approx(outside(6.5 / math.sqrt(17 / 12), freedom))
    assert found.text(2).startswith("-6.50, p = 0.0")
    assert found.text(2).endswith("(Welch, n = 2, 4)")


def test_nothing_is_said_of_one_run_or_without_spread():
    assert paired([1], [2]) is None
    assert paired([1, 2], [2, 3]) is None
    assert welch([1], [2, 3, 4]) is None
    assert welch([1, 1], [2, 2]) is None


def leave_seeds(leave, method, values):
    for seed, value in values.items():
        leave(f"{method}-{seed}", [f"method={method}", f"seed={seed}"], **{"val/knn": value})


def test_pairs_are_made_by_seed_whatever_the_order(leave, tmp_path):
    leave_seeds(leave, "mae", {2: 0.33, 0: 0.11, 1: 0.22})
    leave_seeds(leave, "cim", {0: 0.10, 1: 0.20, 2: 0.30})
    cim, mae = (
        [run for run in read_runs(tmp_path) if run.overrides["method"] == name] for name in ("cim", "mae")
    )
    found = between(mae[::-1], cim, KNN)
    assert found is not None
    assert found.paired
    assert found.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(2 + 12))
    apart = between(mae[:2], cim, KNN)
    assert apart is not None
    assert not apart.paired


def test_a_seed_that_ran_twice_has_no_partner(leave, tmp_path):
    for job, (method, value) in enumerate([("mae", 0.1), ("mae", 0.3), ("cim", 0.2), ("cim", 0.5)]):
        leave(str(job), [f"method={method}", "seed=0"], **{"val/knn": value})
    runs = read_runs(tmp_path)
    found = between(runs[:2], runs[2:], KNN)
    assert found is not None
    assert not found.paired


def test_every_setting_stands_beside_the_best(leave, tmp_path):
    leave_seeds(leave, "mae", {0: 0.3, 1: 0.35})
    leave_seeds(leave, "cim", {0: 0.5, 1: 0.51})
    leave_seeds(leave, "dino", {0: 0.4})
    found = against_best(read_runs(tmp_path))
    assert found.keys() == {"online k-NN after, %"}
    assert found["online k-NN after, %"].keys() == {"mae"}
    assert found["online k-NN after, %"]["mae"].mean == pytest.approx(-18)


def test_what_rounding_leaves_is_no_spread():
    """0.3 - 0.2 and 0.2 - 0.1 are not the same to a computer."""
    assert paired([0.3, 0.2], [0.2, 0.1]) is None
    assert welch([0.1 + 0.2, 0.3], [0.7, 0.1 + 0.6]) is None
    assert welch([0.1 + 0.2, 0.3], [0.7, 0.8]) is not None
