"""Rows about a repeated step."""

from cim_lightning.doctor.finding import problems
from cim_lightning.doctor.replay_findings import replay_findings
from cim_lightning.replay import Replay

NAN = float("nan")


def rows(replayed: Replay) -> dict[str, str]:
    return {finding.name: finding.value for finding in replay_findings(replayed)}


def test_a_step_that_is_not_finite_is_a_problem():
    norms = {"a": 2.0, "b": NAN, "c": float("inf"), "d": 1.0}
    replayed = Replay([1.5, NAN], [1.5, NAN], norms, "output of decoder", ["x.png", "y.png"])
    assert rows(replayed) == {
        "images": "2: x.png, y.png",
        "loss": "1.5, nan (as recorded)",
        "finite until": "output of decoder",
        "largest gradients": "b nan, c inf, a 2, d 1",
    }
    assert problems({"": replay_findings(replayed)}) == ["finite until: the first value that is not finite"]


def test_a_step_that_is_finite_now_is_no_problem():
    replayed = Replay([1.25], [NAN], {"a": 2.0}, None, [])
    assert rows(replayed)["loss"] == "1.25 (recorded: nan)"
    assert rows(replayed)["finite until"] == "the end"
    assert problems({"": replay_findings(replayed)}) == []
