"""t-tests against hand calculation, a closed form and an integral."""

import math

import numpy as np
import pytest

from cim_lightning.report.columns import ONLINE_KNN
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import read_runs
from cim_lightning.report.significance import against_best, between, t_test


def two_sided_p(t: float, freedom: float) -> float:
    """Return the probability of a larger |t| by integrating the density of Student's t."""
    x = np.linspace(-abs(t), abs(t), 200_001)
    density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi * freedom)
    return 1 - scale * float(np.trapezoid(density, x))


def test_paired_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, hence t = 2 sqrt(3) with 2 degrees of freedom."""
    found = t_test([11, 22, 33], [10, 20, 30], paired=True)
    t = 2 * math.sqrt(3)
    assert found is not None
    assert found[:1] + found[2:] == (2, (3, 3), True)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.text(1) == "+2.0, p = 0.074 (paired, n = 3)"


def test_welch_by_hand():
    """Means 2 and 8.5 with squared errors 1 and 5/12 and 1 and 3 degrees of freedom."""
    found = t_test([1, 3], [7, 8, 9, 10], paired=False)
    assert found is not None
    freedom = (17 / 12) ** 2 / (1 + (5 / 12) ** 2 / 3)
    assert found.mean == -6.5
    assert found.n == (2, 4)
    assert found.p == pytest.approx(two_sided_p(6.5 / math.sqrt(17 / 12), freedom))
    assert found.text(2).startswith("-6.50, p = 0.0")
    assert found.text(2).endswith("(Welch, n = 2, 4)")


def test_one_run_or_equal_values_are_not_tested():
    assert t_test([1], [2], paired=True) is None
    assert t_test([1, 2], [2, 3], paired=True) is None
    assert t_test([1], [2, 3, 4], paired=False) is None
    assert t_test([1, 1], [2, 2], paired=False) is None


def write_runs(write_run, method, values):
    for seed, value in values.items():
        write_run(f"{method}-{seed}", [f"method={method}", f"seed={seed}"], **{"val/knn": value})


def test_pairs_are_matched_by_seed_in_any_order(write_run, tmp_path):
    write_runs(write_run, "mae", {2: 0.33, 0: 0.11, 1: 0.22})
    write_runs(write_run, "cim", {0: 0.10, 1: 0.20, 2: 0.30})
    cim, mae = (
        [run for run in read_runs(tmp_path) if run.overrides["method"] == name] for name in ("cim", "mae")
    )
    found = between(mae[::-1], cim, ONLINE_KNN)
    assert found is not None
    assert found.paired
    assert found.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(2 + 12))
    unpaired = between(mae[:2], cim, ONLINE_KNN)
    assert unpaired is not None
    assert not unpaired.paired


def test_runs_with_a_repeated_seed_are_not_paired(write_run, tmp_path):
    for job, (method, value) in enumerate([("mae", 0.1), ("mae", 0.3), ("cim", 0.2), ("cim", 0.5)]):
        write_run(str(job), [f"method={method}", "seed=0"], **{"val/knn": value})
    runs = read_runs(tmp_path)
    found = between(runs[:2], runs[2:], ONLINE_KNN)
    assert found is not None
    assert not found.paired


def test_settings_are_tested_against_the_best(write_run, tmp_path):
    write_runs(write_run, "mae", {0: 30, 1: 35})
    write_runs(write_run, "cim", {0: 50, 1: 51})
    write_runs(write_run, "dino", {0: 40})
    found = against_best(Comparison(read_runs(tmp_path)))
    assert found.keys() == {"online k-NN after, %"}
    assert found["online k-NN after, %"].keys() == {"mae"}
    assert found["online k-NN after, %"]["mae"].mean == pytest.approx(-18)


def test_rounding_errors_are_not_variation():
    """0.3 - 0.2 and 0.2 - 0.1 differ in floating point."""
    assert t_test([0.3, 0.2], [0.2, 0.1], paired=True) is None
    assert t_test([0.1 + 0.2, 0.3], [0.7, 0.1 + 0.6], paired=False) is None
    assert t_test([0.1 + 0.2, 0.3], [0.7, 0.8], paired=False) is not None
