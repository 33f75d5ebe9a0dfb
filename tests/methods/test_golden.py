"""Ten steps of every method, through the door, beside the losses that a committed script captured."""

import json
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__)
SCRIPT = runpy.run_path(str(HERE.parents[2] / "experiments" / "golden_curves.py"))
GOLDEN = json.loads((HERE.parent / "golden.json").read_text())


def test_no_method_is_left_out():
    shipped = {path.stem for path in (HERE.parents[2] / "conf" / "method").glob("*.yaml")}
    assert set(GOLDEN) == set(SCRIPT["OWN"]) == shipped - {"random"}  # which takes no step


@pytest.mark.parametrize("method", GOLDEN)
def test_the_first_ten_losses_are_what_they_were(method, run_pretrain, tmp_path):
    run_pretrain(*SCRIPT["arguments"](method, tmp_path / "run"))
    losses = SCRIPT["losses"](tmp_path / "run")
    assert len(losses) == 10
    assert losses == pytest.approx(GOLDEN[method], rel=2e-3)
    assert min(losses) > 0
