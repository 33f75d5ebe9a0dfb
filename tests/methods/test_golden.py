"""Ten steps of every method against the losses that experiments/golden_curves.py recorded."""

import json
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__)
SCRIPT = runpy.run_path(str(HERE.parents[2] / "experiments" / "golden_curves.py"))
GOLDEN = json.loads((HERE.parent / "golden.json").read_text())


def test_every_method_that_trains_is_covered():
    shipped = {path.stem for path in (HERE.parents[2] / "conf" / "method").glob("*.yaml")}
    assert set(GOLDEN) == set(SCRIPT["OWN"]) == shipped - {"random"}  # does not train


@pytest.mark.parametrize("method", GOLDEN)
def test_the_first_ten_losses_match_the_recorded_ones(method, run_pretrain, tmp_path):
    run_pretrain(*SCRIPT["arguments"](method, tmp_path / "run"))
    losses = SCRIPT["losses"](tmp_path / "run")
    assert len(losses) == 10
    assert losses == pytest.approx(GOLDEN[method], rel=2e-3)
    assert min(losses) > 0
