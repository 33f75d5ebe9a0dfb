"""The suite: metrics files, cached results, skipped and failed evaluators, additions by a later command."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from cim_lightning.data.bad_images import BadImages
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.suite import evaluate
from cim_lightning.metric_registry import Metric


class Scores:
    """An evaluator with one metric, that counts its calls.

    Args:
        value: the metric.
        reason: why it does not apply.
        compute: overrides the metric.
    """

    metrics = (Metric("score_k*", "score, k = *", digits=1, unit="%"),)

    def __init__(self, value: float = 1.0, reason: str | None = None, compute=None):
        self.calls, self.value, self.reason, self.compute = 0, value, reason, compute

    def applies(self, context) -> str | None:
        return self.reason

    def forward_passes(self, context) -> float:
        return 0

    def __call__(self, context) -> dict[str, float]:
        self.calls += 1
        context.record(k=[1], value=self.value)
        return {"score_k1": self.value} if self.compute is None else self.compute(context)


def fails(error: Exception):
    def compute(context) -> dict[str, float]:
        raise error

    return Scores(compute=compute)


def ones(evaluators) -> dict[str, int]:
    return dict.fromkeys(evaluators, 1)


def read(tmp_path, name: str = "metrics.json") -> dict:
    return json.loads((tmp_path / name).read_text())


def test_metrics_are_named_by_evaluator_and_written_with_unit_and_protocol(context, tmp_path):
    evaluators = {"a": Scores(25.0), "b": Scores(3.0)}
    results = evaluate(evaluators, context(), {"a": 1, "b": 2}, {"checkpoint": "x"})
    assert results.metrics == {"a/score_k1": 25.0, "b/score_k1": 3.0}
    written = read(tmp_path)
    assert {name: written[name] for name in ("checkpoint", "a/score_k1", "b/score_k1")} == {
        "checkpoint": "x",
        **results.metrics,
    }
    assert written["metrics"]["a/score_k1"] == {
        "name": "score_k1",
        "title": "score, k = 1",
        "digits": 1,
        "unit": "%",
    }
    assert written["protocol"]["b"] == {"preprocessing": "CenterSquare(size=32)", "k": [1], "value": 3.0}
    assert written["skipped"] == written["failed"] == {}
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| a | score, k = 1 | 25.0 % |" in lines
    assert "| b | preprocessing: CenterSquare(size=32); k: 1; value: 3 |" in lines


@pytest.mark.fault("data", "damaged images in an evaluation", "their number is in its metrics.json")
def test_the_metrics_have_the_number_of_bad_images(context, tmp_path):
    images, other = BadImages(), SimpleNamespace()
    built = context(data=SimpleNamespace(bad_images=images, view=SimpleNamespace(size=32)))

    def compute(context) -> dict[str, float]:
        for data in (built.data, context.on(other).data):  # such as another domain
            data.bad_images.add(f"{id(data)}", "truncated")
        return {"score_k1": 1.0}

    evaluate({"a": Scores(compute=compute)}, built, {"a": 1}, {})
    assert read(tmp_path)["bad_images"] == 2
    evaluate({"a": Scores()}, context(), {"a": 2}, {})
    assert "bad_images" not in read(tmp_path)


def test_the_table_says_what_mean_and_pooled_features_are(context, tmp_path):
    evaluate({"a": Scores()}, context(), {"a": 1}, {})
    assert "class token" not in (tmp_path / "table.md").read_text()
    evaluate({"b": Scores(compute=lambda _: {"mean_k1": 1.0})}, context(), {"b": 1}, {})
    table = (tmp_path / "table.md").read_text()
    assert table.count("*mean* is the mean over the patch grid; *pooled* is the class token of a ViT") == 1


def test_a_rerun_computes_only_what_is_missing_or_has_other_arguments(context):
    context = context()
    evaluators = {"a": Scores(1.0), "b": Scores(2.0)}
    args = {"a": {"seed": 0, "ks": (1, 2)}, "b": {"seed": 0}}
    first = evaluate(evaluators, context, args, {})
    assert evaluate(evaluators, context, args, {}) == first
    assert (evaluators["a"].calls, evaluators["b"].calls) == (1, 1)
    evaluate(evaluators, context, args | {"b": {"seed": 1}}, {})
    assert (evaluators["a"].calls, evaluators["b"].calls) == (1, 2)


def test_a_later_command_adds_to_the_results(context, tmp_path):
    context = context()
    evaluate({"a": Scores(1.0), "b": Scores(2.0)}, context, {"a": 1, "b": 1}, {})
    evaluate({"b": Scores(5.0), "c": Scores(3.0)}, context, {"b": 2, "c": 1}, {"checkpoint": "x"})
    written = read(tmp_path)
    scores = {name: value for name, value in written.items() if "/" in name}
    assert scores == {"a/score_k1": 1.0, "b/score_k1": 5.0, "c/score_k1": 3.0}
    assert written["metrics"].keys() == scores.keys()
    assert {name: protocol["value"] for name, protocol in written["protocol"].items()} == {
        "a": 1.0,
        "b": 5.0,
        "c": 3.0,
    }
    table = (tmp_path / "table.md").read_text()
    assert [line for line in table.splitlines() if "%" in line] == [
        "| a | score, k = 1 | 1.0 % |",
        "| b | score, k = 1 | 5.0 % |",
        "| c | score, k = 1 | 3.0 % |",
    ]


def test_an_evaluator_replaces_all_its_metrics(context, tmp_path):
    context = context()
    evaluate({"a": Scores(compute=lambda _: {"score_k1": 1.0, "score_k9": 2.0})}, context, {"a": 1}, {})
    evaluate({"a": Scores(4.0)}, context, {"a": 2}, {})
    written = read(tmp_path)
    assert {name for name in written if "/" in name} == {"a/score_k1"} == written["metrics"].keys()


def test_results_of_other_weights_are_not_mixed_and_come_back(context, tmp_path, caplog):
    ours, other = context(), context()
    ours.cache_key, other.cache_key = {"checkpoint": "ours"}, {"checkpoint": "other"}
    evaluate({"a": Scores(1.0)}, ours, {"a": "ours"}, {})
    with caplog.at_level(logging.INFO):
        evaluate({"b": Scores(2.0)}, other, {"b": "other"}, {})
    written = read(tmp_path)
    assert {name for name in written if "/" in name} == {"b/score_k1"}
    (moved,) = tmp_path.glob("metrics-*.json")
    assert read(tmp_path, moved.name)["a/score_k1"] == 1.0
    assert f"moved the results of other weights, data or seed to {moved.name}" in caplog.text
    evaluate({"c": Scores(3.0)}, ours, {"c": "ours"}, {})
    assert {name for name in read(tmp_path) if "/" in name} == {"a/score_k1", "c/score_k1"}


def test_a_failed_evaluator_does_not_stop_the_others(context, tmp_path, caplog):
    context = context()
    evaluators = {
        "a": Scores(1.0),
        "b": fails(RuntimeError("power\nfailure")),
        "c": fails(ConfigError("size", 20, "must be a multiple of 16", suggest=16)),
        "d": Scores(2.0),
    }
    results = evaluate(evaluators, context, ones(evaluators), {})
    assert results.metrics == {"a/score_k1": 1.0, "d/score_k1": 2.0}
    written = read(tmp_path)
    assert written["failed"] == {
        "b": "RuntimeError: power failure",
        "c": "size=20: must be a multiple of 16; try size=16",
    }
    assert "Traceback" in caplog.text  # of the RuntimeError
    assert "* b failed: RuntimeError: power failure" in (tmp_path / "table.md").read_text().splitlines()
    evaluators |= {"b": Scores(3.0)}
    results = evaluate(evaluators, context, ones(evaluators), {})
    assert evaluators["a"].calls == 1
    assert (results.metrics["b/score_k1"], results.failed.keys()) == (3.0, {"c"})


def test_a_failed_evaluator_loses_its_earlier_results(context, tmp_path):
    evaluate({"a": Scores()}, context(), {"a": 1}, {})
    evaluate({"a": fails(RuntimeError())}, context(), {"a": 2}, {})
    written = read(tmp_path)
    assert "a/score_k1" not in written
    assert written["protocol"] == written["metrics"] == {}


def test_a_config_error_gets_the_group_of_its_evaluator(context):
    groups = []

    def explain(error: BaseException) -> str:
        groups.append(error.group)
        return "explained"

    evaluator = fails(ConfigError("size", 20, "must be a multiple of 16", suggest=16))
    results = evaluate({"b": evaluator}, context(), {"b": 1}, {}, explain=explain)
    assert groups == ["evaluation.b"]
    assert results.failed == {"b": "explained"}


def test_an_interruption_is_not_a_failed_evaluator(context):
    def interrupt(context) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate({"a": Scores(compute=interrupt)}, context(), {"a": 1}, {})


def test_an_error_of_one_of_several_processes_ends_all_and_is_recorded(context, tmp_path):
    context = context()
    context.world_size = 2
    with pytest.raises(RuntimeError, match="power"):
        evaluate({"a": fails(RuntimeError("power"))}, context, {"a": 1}, {})
    assert read(tmp_path)["failed"] == {"a": "RuntimeError: power"}


def test_an_evaluator_that_does_not_apply_is_skipped(context, tmp_path):
    evaluators = {"a": Scores(1.0), "b": Scores(2.0, "needs a moon")}
    results = evaluate(evaluators, context(), ones(evaluators), {})
    assert results.metrics == {"a/score_k1": 1.0}
    assert read(tmp_path)["skipped"] == {"b": "needs a moon"}
    assert "* b skipped: needs a moon" in (tmp_path / "table.md").read_text().splitlines()
    evaluators["b"].reason = None
    results = evaluate(evaluators, context(), ones(evaluators), {})
    assert results.skipped == {}


def test_a_requested_evaluator_that_does_not_apply_is_refused_before_anything_runs(context, tmp_path):
    evaluators = {"a": Scores(), "b": Scores(2.0, "needs a moon"), "c": Scores(2.0, "needs two moons")}
    with pytest.raises(ConfigError, match=r"^c needs two moons; try evaluation=all, which skips"):
        evaluate(evaluators, context(), ones(evaluators), {}, requested=("a", "c"))
    assert evaluators["a"].calls == 0
    assert not list(tmp_path.iterdir())


def test_without_an_evaluator_that_applies_there_is_a_table(context, tmp_path):
    evaluate({"a": Scores(1.0, "needs a moon")}, context(), {"a": 1}, {})
    assert (tmp_path / "table.md").read_text() == "No evaluator has a result.\n\n* a skipped: needs a moon\n"


def test_other_processes_write_nothing(context, tmp_path):
    context = context()
    context.rank = 1
    results = evaluate({"a": Scores(2.0)}, context, {"a": 1}, {})
    assert results.metrics == {"a/score_k1": 2.0}
    assert not list(tmp_path.iterdir())


def test_random_numbers_depend_only_on_the_seed(context):
    context = context()
    evaluators = {name: Scores(compute=lambda _: {"drawn": torch.rand(1).item()}) for name in ("a", "b")}
    torch.rand(3)
    metrics = evaluate(evaluators, context, ones(evaluators), {}).metrics
    assert metrics["a/drawn"] == metrics["b/drawn"]
    context.seed = 1
    assert evaluate(evaluators, context, {"a": 3, "b": 3}, {}).metrics["a/drawn"] != metrics["a/drawn"]


def test_evaluators_can_train_whatever_the_gradient_mode_of_the_caller(context):
    evaluator = Scores(compute=lambda _: {"grad": float(torch.is_grad_enabled())})
    with torch.no_grad():
        assert evaluate({"a": evaluator}, context(), {"a": 1}, {}).metrics == {"a/grad": 1.0}


def test_a_skipped_evaluator_keeps_the_results_of_an_earlier_command(context, tmp_path):
    evaluate({"a": Scores(1.0)}, context(), {"a": 1}, {})
    results = evaluate({"a": Scores(2.0, "needs a moon")}, context(), {"a": 1}, {})
    assert (results.metrics, results.skipped) == ({"a/score_k1": 1.0}, {})


def test_a_skipped_evaluator_has_not_failed(context, tmp_path):
    evaluate({"a": fails(RuntimeError())}, context(), {"a": 1}, {})
    results = evaluate({"a": Scores(2.0, "needs a moon")}, context(), {"a": 1}, {})
    assert (results.failed, results.skipped) == ({}, {"a": "needs a moon"})


def test_failures_with_other_weights_are_forgotten(context, tmp_path):
    ours, other = context(), context()
    ours.cache_key, other.cache_key = {"checkpoint": "ours"}, {"checkpoint": "other"}
    evaluate({"a": fails(RuntimeError()), "b": Scores(1.0, "needs a moon")}, ours, {"a": 1, "b": 1}, {})
    results = evaluate({"c": Scores()}, other, {"c": 1}, {})
    assert results.failed == results.skipped == {}
