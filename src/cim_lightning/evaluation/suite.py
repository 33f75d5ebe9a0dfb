"""Run all evaluators and write their results; a rerun uses the cached results."""

import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch

from cim_lightning.atomic import atomic_write, read_json, write_json
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


def evaluate(
    evaluators: Mapping[str, Evaluator],
    context: EvalContext,
    args: Mapping[str, Any],
    description: Mapping[str, Any],
    requested: Collection[str] = (),
) -> dict[str, float]:
    """Run every evaluator that applies and return the metrics, as "<evaluator>/<metric>".

    After each evaluator, update `metrics.json` and `table.md` in the context's folder.

    Args:
        args: plain values that determine the metrics, by evaluator. If `evaluators/<evaluator>.json` has the
            same values, its metrics are used.
        description: entries that describe the weights, such as the checkpoint; added to `metrics.json`.
        requested: evaluators that must apply; the others are skipped if they do not.

    Raises:
        ConfigError: a requested evaluator does not apply.
    """
    metrics: dict[str, float] = {}
    skipped = check_applicable(evaluators, context, requested)
    evaluators = {name: evaluator for name, evaluator in evaluators.items() if name not in skipped}
    (context.folder / "evaluators").mkdir(parents=True, exist_ok=True)
    for name, evaluator in evaluators.items():
        path, key = context.folder / "evaluators" / f"{name}.json", json.loads(json.dumps(args[name]))
        cached = read_json(path)
        if cached.get("args") == key:
            log.info("%s: cached", name)
        else:
            log.info("%s ...", name)
            try:
                # Independent of the evaluators before, and of the caller's gradient mode.
                with fork_rng(context.seed), torch.enable_grad():
                    cached = {"args": key, "numbers": evaluator(context)}
            except ConfigError as error:
                error.group = error.group or f"evaluation.{name}"
                raise
            write_json(path, cached)
        metrics |= {f"{name}/{key}": value for key, value in cached["numbers"].items()}
        write_json(context.folder / "metrics.json", {**description, **metrics})
        atomic_write(context.folder / "table.md", table(metrics) + "\n")
    return metrics


def check_applicable(
    evaluators: Mapping[str, Evaluator], context: EvalContext, requested: Collection[str]
) -> dict[str, str]:
    """Return the reason why each skipped evaluator does not apply.

    Raises:
        ConfigError: a requested evaluator does not apply.
    """
    # Until all evaluators have `applies`.
    reasons = {name: getattr(part, "applies", lambda _: None)(context) for name, part in evaluators.items()}
    skipped = {name: reason for name, reason in reasons.items() if reason is not None}
    if refused := [f"{name} {reason}" for name, reason in skipped.items() if name in requested]:
        raise ConfigError(f"{', '.join(refused)}; choose other evaluators, or evaluation=all, which skips it")
    for name, reason in skipped.items():
        log.info("%s: skipped, because it %s", name, reason)
    return skipped


def table(metrics: Mapping[str, float]) -> str:
    """Format the metrics as a Markdown table, one row per metric."""
    rows = ["| evaluator | metric | value |", "|---|---|---|"]
    for key, value in metrics.items():
        evaluator, metric = key.split("/", 1)
        rows.append(f"| {evaluator} | {metric.replace('_', ' ')} | {value:.4g} |")
    return "\n".join(rows)
