"""Ten steps of every method against the losses that experiments/golden_curves.py recorded."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "golden_curves.py"))
METHODS = sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(SCRIPT["GOLDEN"]))
def test_the_first_ten_losses_match_the_recorded_ones(name, run_pretrain, tmp_path):
    run_pretrain(*SCRIPT["arguments"](name, tmp_path / "run"))
    losses = SCRIPT["losses"](tmp_path / "run")
    assert len(losses) == 10
    assert losses == pytest.approx(SCRIPT["read"](name)["losses"], rel=2e-3)
    assert min(losses) > 0


def test_every_method_that_trains_has_a_recorded_curve():
    methods = {SCRIPT["read"](name).get("method", name) for name in SCRIPT["GOLDEN"]}
    assert methods == set(METHODS) - {"random"}
