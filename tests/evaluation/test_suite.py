"""The suite: what is done is kept and not done again, whatever interrupts it."""

import json

import pytest
import torch

from cim_lightning.evaluation.suite import evaluate, table


class Counting:
    """A part that counts its calls."""

    def __init__(self, value: float):
        self.calls, self.value = 0, value

    def __call__(self, context) -> dict[str, float]:
        self.calls += 1
        return {"score_k1": self.value}


def broken(context) -> dict[str, float]:
    raise RuntimeError("no electricity")


def test_numbers_are_named_by_part_and_written(context, tmp_path):
    context = context()
    parts = {"a": Counting(0.25), "b": Counting(3.0)}
    done = evaluate(parts, context, {"a": 1, "b": 2}, {"checkpoint": "x"})
    assert done == {"a/score_k1": 0.25, "b/score_k1": 3.0}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"checkpoint": "x", **done}
    assert "| a | score k1 | 0.25 |" in (tmp_path / "table.md").read_text().splitlines()


def test_a_rerun_does_what_is_missing_or_was_asked_otherwise(context):
    context = context()
    parts = {"a": Counting(1.0), "b": Counting(2.0)}
    asked = {"a": {"seed": 0, "ks": (1, 2)}, "b": {"seed": 0}}
    evaluate(parts, context, asked, {})
    evaluate(parts, context, asked, {})
    assert (parts["a"].calls, parts["b"].calls) == (1, 1)
    evaluate(parts, context, asked | {"b": {"seed": 1}}, {})
    assert (parts["a"].calls, parts["b"].calls) == (1, 2)


def test_what_was_done_survives_what_comes_after(context, tmp_path):
    context = context()
    first = Counting(1.0)
    with pytest.raises(RuntimeError):
        evaluate({"a": first, "b": broken}, context, {"a": 1, "b": 1}, {})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a/score_k1": 1.0}
    evaluate({"a": first, "b": Counting(2.0)}, context, {"a": 1, "b": 1}, {})
    assert first.calls == 1


def test_the_table_has_a_row_a_number():
    assert table({"a/x": 0.5, "b/y_z": 12345.0}).splitlines()[2:] == [
        "| a | x | 0.5 |",
        "| b | y z | 1.234e+04 |",
    ]


def test_what_a_part_draws_is_a_function_of_the_seed_whatever_came_before(context):
    context = context()
    parts = {name: lambda _: {"drawn": torch.rand(1).item()} for name in ("a", "b")}
    torch.rand(3)
    done = evaluate(parts, context, {"a": 1, "b": 2}, {})
    assert done["a/drawn"] == done["b/drawn"]
    context.seed = 1
    assert evaluate(parts, context, {"a": 3, "b": 3}, {})["a/drawn"] != done["a/drawn"]
