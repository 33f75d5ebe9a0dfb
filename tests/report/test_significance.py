"""t-tests against hand calculation, a closed form and an integral."""

import math

import numpy as np
import pytest

from cim_lightning.report.columns import ONLINE_KNN
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import read_runs
from cim_lightning.report.significance import between, differences, holm, t_test


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
    assert (found.mean, found.n, found.paired, found.tests) == (2, (3, 3), True, 1)
    assert found.p == found.corrected == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.text(1) == "+2.0, p = 0.074 (paired, n = 3; 1 test)"
    corrected = found._replace(corrected=0.0004, tests=9)
    assert corrected.text(1) == "+2.0, p < 0.001 (paired, n = 3; 9 tests)"
    assert corrected.note == "p = 0.074 alone"


def test_welch_by_hand():
    """Means 2 and 8.5 with squared errors 1 and 5/12 and 1 and 3 degrees of freedom."""
    found = t_test([1, 3], [7, 8, 9, 10], paired=False)
    assert found is not None
    freedom = (17 / 12) ** 2 / (1 + (5 / 12) ** 2 / 3)
    assert found.mean == -6.5
    assert found.n == (2, 4)
    assert found.p == pytest.approx(two_sided_p(6.5 / math.sqrt(17 / 12), freedom))
    assert found.text(2).startswith("-6.50, p = 0.0")
    assert found.text(2).endswith("(Welch, n = 2, 4; 1 test)")


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


def test_holm_by_hand():
    """The smallest of four is multiplied by 4, the next by 3; none becomes smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.5]) == [1, 1, 1]
    assert holm([]) == []


def test_holm_rejects_what_its_steps_reject():
    """The i-th smallest p of m is rejected at alpha if it and all smaller ones are below alpha / (m - i)."""
    random = np.random.default_rng(0)
    for _ in range(50):
        ps = (random.random(int(random.integers(1, 8))) ** 3).tolist()
        corrected = holm(ps)
        for alpha in (0.01, 0.05, 0.3):
            rejected = set()
            for i, p in enumerate(sorted(ps)):
                if p > alpha / (len(ps) - i):
                    break
                rejected.add(p)
            assert {p for p, c in zip(ps, corrected, strict=True) if c <= alpha} == rejected


def test_settings_are_tested_against_the_best_among_all_pairs(write_run, tmp_path):
    write_runs(write_run, "mae", {0: 30, 1: 35, 2: 31})
    write_runs(write_run, "cim", {0: 50, 1: 51, 2: 53})
    write_runs(write_run, "moco_v3", {0: 40, 1: 44, 2: 41})
    write_runs(write_run, "dino", {0: 20})
    compared = Comparison(read_runs(tmp_path))
    found = differences(compared)
    assert found.keys() == {"online k-NN after, %"}
    reference, by_setting = found["online k-NN after, %"]
    assert reference == "cim"
    assert by_setting.keys() == {"mae", "moco_v3"}
    pairs = [("mae", "cim"), ("moco_v3", "cim"), ("mae", "moco_v3")]
    tests = [between(compared.runs[a], compared.runs[b], ONLINE_KNN) for a, b in pairs]
    expected = holm([test.p for test in tests if test is not None])
    assert [by_setting[name].corrected for name in ("mae", "moco_v3")] == expected[:2]
    assert by_setting["mae"].mean == pytest.approx(-58 / 3)
    assert by_setting["mae"].tests == 3


def test_settings_are_tested_against_a_reference(write_run, tmp_path):
    write_runs(write_run, "mae", {0: 30, 1: 35, 2: 31})
    write_runs(write_run, "cim", {0: 50, 1: 51, 2: 53})
    write_runs(write_run, "moco_v3", {0: 40, 1: 44})
    compared = Comparison(read_runs(tmp_path))
    reference, by_setting = differences(compared, "mae")["online k-NN after, %"]
    assert reference == "mae"
    cim, moco = by_setting["cim"], by_setting["moco_v3"]
    assert (cim.paired, moco.paired, cim.tests, moco.tests) == (True, False, 2, 2)
    assert cim.mean == pytest.approx(58 / 3)
    low, high = sorted((cim, moco), key=lambda test: test.p)
    assert (low.corrected, high.corrected) == (2 * low.p, max(2 * low.p, high.p))
    assert differences(compared, "dino") == {}


def test_rounding_errors_are_not_variation():
    """0.3 - 0.2 and 0.2 - 0.1 differ in floating point."""
    assert t_test([0.3, 0.2], [0.2, 0.1], paired=True) is None
    assert t_test([0.1 + 0.2, 0.3], [0.7, 0.1 + 0.6], paired=False) is None
    assert t_test([0.1 + 0.2, 0.3], [0.7, 0.8], paired=False) is not None
