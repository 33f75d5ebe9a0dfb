"""Schedules against values by hand."""

import re

import pytest

from cim_lightning.errors import ConfigError
from cim_lightning.schedule import Schedule


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        # (1 + cos 0, 45, 90, 135, 180 degrees) / 2 of the way back to the start
        (Schedule(0.2, 1.0), [0.2, 0.3171573, 0.6, 0.8828427, 1.0]),
        (Schedule(1.0, 0.0, "linear"), [1, 0.75, 0.5, 0.25, 0]),
        (Schedule(0.04, 0.07, "linear", share=0.5), [0.04, 0.055, 0.07, 0.07, 0.07]),
        (Schedule(2.0, 4.0, share=0.25), [2, 4, 4, 4, 4]),
        (Schedule(2.0, 4.0, share=0.0), [4, 4, 4, 4, 4]),
        (Schedule(3.0, 3.0), [3, 3, 3, 3, 3]),
    ],
)
def test_values_at_quarters_of_training(schedule, values):
    assert [schedule(quarter / 4) for quarter in range(5)] == pytest.approx(values)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"shape": "cosin"}, "shape=cosin: must be one of cosine, linear; did you mean cosine?"),
        ({"share": 1.5}, "share=1.5: must be at least 0 and at most 1; try share=1.0"),
        ({"share": -0.5}, "share=-0.5: must be at least 0 and at most 1; try share=0.0"),
    ],
)
def test_a_mistake_gets_one_line_with_a_suggestion(mistake, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Schedule(0, 1, **mistake)
