"""The suite: metrics files, and cached results after a rerun or an error."""

import json

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.suite import evaluate, table


class CountingEvaluator:
    """An evaluator that counts its calls."""

    def __init__(self, value: float):
        self.calls, self.value = 0, value

    def __call__(self, context) -> dict[str, float]:
        self.calls += 1
        return {"score_k1": self.value}


def broken(context) -> dict[str, float]:
    raise RuntimeError("power failure")


def test_metrics_are_named_by_evaluator_and_written(context, tmp_path):
    evaluators = {"a": CountingEvaluator(0.25), "b": CountingEvaluator(3.0)}
    metrics = evaluate(evaluators, context(), {"a": 1, "b": 2}, {"checkpoint": "x"})
    assert metrics == {"a/score_k1": 0.25, "b/score_k1": 3.0}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"checkpoint": "x", **metrics}
    assert "| a | score k1 | 0.25 |" in (tmp_path / "table.md").read_text().splitlines()


def test_a_rerun_computes_only_what_is_missing_or_has_other_arguments(context):
    context = context()
    evaluators = {"a": CountingEvaluator(1.0), "b": CountingEvaluator(2.0)}
    args = {"a": {"seed": 0, "ks": (1, 2)}, "b": {"seed": 0}}
    evaluate(evaluators, context, args, {})
    evaluate(evaluators, context, args, {})
    assert (evaluators["a"].calls, evaluators["b"].calls) == (1, 1)
    evaluate(evaluators, context, args | {"b": {"seed": 1}}, {})
    assert (evaluators["a"].calls, evaluators["b"].calls) == (1, 2)


def test_results_survive_an_error_in_a_later_evaluator(context, tmp_path):
    context = context()
    first = CountingEvaluator(1.0)
    with pytest.raises(RuntimeError):
        evaluate({"a": first, "b": broken}, context, {"a": 1, "b": 1}, {})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a/score_k1": 1.0}
    evaluate({"a": first, "b": CountingEvaluator(2.0)}, context, {"a": 1, "b": 1}, {})
    assert first.calls == 1


def test_a_config_error_gets_the_group_of_its_evaluator(context):
    def refuse(context) -> dict[str, float]:
        raise ConfigError("size", 20, "must be a multiple of 16", suggest=16)

    with pytest.raises(ConfigError) as caught:
        evaluate({"b": refuse}, context(), {"b": 1}, {})
    assert caught.value.group == "evaluation.b"


class Picky(CountingEvaluator):
    """An evaluator that does not apply."""

    def applies(self, context) -> str:
        return "needs a moon"


def test_an_evaluator_that_does_not_apply_is_skipped_unless_it_is_requested(context):
    context = context()
    evaluators = {"a": CountingEvaluator(1.0), "b": Picky(2.0), "c": Picky(3.0)}
    args = {"a": 1, "b": 1, "c": 1}
    assert evaluate(evaluators, context, args, {}) == {"a/score_k1": 1.0}
    evaluators["a"].calls = 0
    with pytest.raises(ConfigError, match=r"^c needs a moon; choose"):
        evaluate(evaluators, context, args | {"a": 2}, {}, requested=("a", "c"))
    assert [evaluator.calls for evaluator in evaluators.values()] == [0, 0, 0]


def test_the_table_has_one_row_per_metric():
    assert table({"a/x": 0.5, "b/y_z": 12345.0}).splitlines()[2:] == [
        "| a | x | 0.5 |",
        "| b | y z | 1.234e+04 |",
    ]


def test_random_numbers_depend_only_on_the_seed(context):
    context = context()
    evaluators = {name: lambda _: {"drawn": torch.rand(1).item()} for name in ("a", "b")}
    torch.rand(3)
    metrics = evaluate(evaluators, context, {"a": 1, "b": 2}, {})
    assert metrics["a/drawn"] == metrics["b/drawn"]
    context.seed = 1
    assert evaluate(evaluators, context, {"a": 3, "b": 3}, {})["a/drawn"] != metrics["a/drawn"]


def test_evaluators_can_train_whatever_the_gradient_mode_of_the_caller(context):
    with torch.no_grad():
        metrics = evaluate({"a": lambda _: {"grad": float(torch.is_grad_enabled())}}, context(), {"a": 1}, {})
    assert metrics == {"a/grad": 1.0}
