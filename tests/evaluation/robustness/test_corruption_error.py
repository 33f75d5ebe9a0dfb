"""A table of corruption errors worked out by hand, and the published one."""

import pytest

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions.catalog import CORRUPTIONS
from cim_lightning.evaluation.robustness.corruption_error import (
    ALEXNET,
    CorruptionBaseline,
    corruption_errors,
    mean_corruption_error,
    relative_mean_corruption_error,
)

#            severity 1    2    3    4    5   mean  baseline  CE
# fog               0.2  0.3  0.4  0.5  0.6   0.4       0.8   50
# snow              0.1  0.1  0.2  0.3  0.3   0.2       0.5   40
# contrast          0.5  0.6  0.7  0.8  0.9   0.7       0.7  100    mCE (50 + 40 + 100) / 3
ERRORS = {
    "fog": [0.2, 0.3, 0.4, 0.5, 0.6],
    "snow": [0.1, 0.1, 0.2, 0.3, 0.3],
    "contrast": [0.5, 0.6, 0.7, 0.8, 0.9],
}
BASELINE = CorruptionBaseline("by hand", 0.3, {"fog": 0.8, "snow": 0.5, "contrast": 0.7})


def test_the_table():
    found = corruption_errors(ERRORS, BASELINE)
    assert found == pytest.approx({"fog": 50, "snow": 40, "contrast": 100})
    assert mean_corruption_error(ERRORS, BASELINE) == pytest.approx(190 / 3)


def test_the_relative_table():
    # Added to a clean error of 0.1: 0.3, 0.1, 0.6; the baseline's to 0.3: 0.5, 0.2, 0.4. So 60, 50 and 150 %.
    assert relative_mean_corruption_error(ERRORS, 0.1, BASELINE) == pytest.approx(260 / 3)


def test_severities_are_summed_before_dividing():
    # The mean of ratios to the baseline's 0.1 and 0.9 would be 100 * (0.9 / 0.1 + 0.1 / 0.9) / 2 = 456.
    assert mean_corruption_error(
        {"fog": [0.9, 0.1]}, CorruptionBaseline("b", 0, {"fog": 0.5})
    ) == pytest.approx(100)


def test_alexnet_is_a_hundred_of_itself_and_has_all_corruptions():
    assert ALEXNET.errors.keys() == CORRUPTIONS.keys()
    own = {name: [value] * 5 for name, value in ALEXNET.errors.items()}
    assert mean_corruption_error(own, ALEXNET) == pytest.approx(100)
    assert relative_mean_corruption_error(own, ALEXNET.clean, ALEXNET) == pytest.approx(100)


def test_resnet_50_of_the_paper():
    # Table 1: corruption errors of ResNet-50 in per cent of AlexNet's, its mCE of 76.7, its error of 23.9 %.
    table = (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77)
    errors = {name: [ce / 100 * ALEXNET.errors[name]] for name, ce in zip(CORRUPTIONS, table, strict=True)}
    assert mean_corruption_error(errors, ALEXNET) == pytest.approx(76.7, abs=0.2)
    # Published beside it, for the same network: a relative mCE of 105.0 %.
    assert relative_mean_corruption_error(errors, 0.239, ALEXNET) == pytest.approx(105.0, abs=1)


def test_the_baseline_must_know_the_corruption():
    with pytest.raises(ConfigError, match=r"baseline\.errors\.fog=None: by hand"):
        mean_corruption_error({"fog": [0.5]}, CorruptionBaseline("by hand", 0.3, {}))
    with pytest.raises(ConfigError, match=r"baseline\.errors\.fog=0\.2: .*try leave fog out"):
        relative_mean_corruption_error({"fog": [0.5]}, 0.1, CorruptionBaseline("by hand", 0.3, {"fog": 0.2}))
