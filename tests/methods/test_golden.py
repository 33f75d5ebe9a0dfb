"""Ten steps of every method against the losses that experiments/golden_curves.py recorded."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "golden_curves.py"))
METHODS = sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml"))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "random"])  # it does not train
def test_the_first_ten_losses_match_the_recorded_ones(method, run_pretrain, tmp_path):
    run_pretrain(*SCRIPT["arguments"](method, tmp_path / "run"))
    losses = SCRIPT["losses"](tmp_path / "run")
    assert len(losses) == 10
    assert losses == pytest.approx(SCRIPT["read"](method)["losses"], rel=2e-3)
    assert min(losses) > 0


def test_every_recorded_curve_belongs_to_a_method():
    assert set(SCRIPT["GOLDEN"]) == set(METHODS) - {"random"}
