"""Corruption errors computed by hand, and those of the paper."""

import pytest

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.evaluation.robustness.corruption_error import CorruptionBaseline, alexnet, write_curves

ALEXNET = alexnet()

#            severity 1    2    3    4    5   mean  baseline  CE
# fog                20   30   40   50   60     40        80   50
# snow               10   10   20   30   30     20        50   40
# contrast           50   60   70   80   90     70        70  100    mCE (50 + 40 + 100) / 3
ERRORS = {"fog": [20, 30, 40, 50, 60], "snow": [10, 10, 20, 30, 30], "contrast": [50, 60, 70, 80, 90]}
BASELINE = CorruptionBaseline("by hand", 30, {"fog": 80, "snow": 50, "contrast": 70})


def test_mce_by_hand():
    of_each = {name: BASELINE.mce({name: errors}) for name, errors in ERRORS.items()}
    assert of_each == pytest.approx({"fog": 50, "snow": 40, "contrast": 100})
    assert BASELINE.mce(ERRORS) == pytest.approx(190 / 3)


def test_relative_mce_by_hand():
    # Added to a clean error of 10: 30, 10, 60; to the baseline's 30: 50, 20, 40. So 60, 50 and 150 %.
    assert BASELINE.relative_mce(ERRORS, 10) == pytest.approx(260 / 3)


def test_severities_are_averaged_before_the_division():
    # The mean of ratios to the baseline's 10 and 90 would be 100 * (90 / 10 + 10 / 90) / 2 = 456.
    assert CorruptionBaseline("b", 0, {"fog": 50}).mce({"fog": [90, 10]}) == pytest.approx(100)


def test_alexnet_has_all_corruptions_and_an_mce_of_100():
    assert ALEXNET.errors.keys() == CORRUPTIONS.keys()
    errors = {name: [value] * 5 for name, value in ALEXNET.errors.items()}
    assert ALEXNET.mce(errors) == pytest.approx(100)
    assert ALEXNET.relative_mce(errors, ALEXNET.clean) == pytest.approx(100)


def test_resnet_50_of_the_paper():
    # Table 1: corruption errors of ResNet-50 in percent of AlexNet's, its mCE of 76.7, its error of 23.9 %.
    table = (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77)
    errors = {name: [ce / 100 * ALEXNET.errors[name]] for name, ce in zip(CORRUPTIONS, table, strict=True)}
    assert ALEXNET.mce(errors) == pytest.approx(76.7, abs=0.2)
    # Published with it, for the same network: a relative mCE of 105.0 %.
    assert ALEXNET.relative_mce(errors, 23.9) == pytest.approx(105.0, abs=1)


def test_a_missing_error_of_the_baseline_is_an_error():
    with pytest.raises(ConfigError, match=r"^baseline=by hand: needs an error under fog.*leave fog out"):
        CorruptionBaseline("by hand", 30, {}).mce({"fog": [50]})
    with pytest.raises(ConfigError, match=r"^baseline=by hand: .*\(here: 0\.0\)"):
        CorruptionBaseline("by hand", 30, {"fog": 0.0}).relative_mce({"fog": [50]}, 10)


def test_no_relative_mce_if_a_corruption_adds_no_error():
    baseline = CorruptionBaseline("by hand", 30, {"fog": 20, "snow": 40})
    assert baseline.relative_mce({"fog": [50], "snow": [50]}, 10) is None


def test_curves_are_written_into_a_new_folder(tmp_path):
    accuracies = {"clean": 90.0} | {f"fog/{s}": 90.0 - 10 * s for s in range(1, 6)}
    write_curves(accuracies, ["fog"], tmp_path / "new" / "folder")
    rows = (tmp_path / "new" / "folder" / "corruptions.csv").read_text().splitlines()
    assert rows == ["corruption,severity,accuracy", *(f"fog,{s},{90.0 - 10 * s}" for s in range(6))]
