"""Run all evaluators and write their results; a rerun uses the cached results."""

import json
import logging
from collections.abc import Mapping
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
) -> dict[str, float]:
    """Run every evaluator and return the metrics, as "<evaluator>/<metric>".

    After each evaluator, update `metrics.json` and `table.md` in the context's folder.

    Args:
        args: plain values that determine the metrics, by evaluator. If `evaluators/<evaluator>.json` has the
            same values, its metrics are used.
        description: entries that describe the weights, such as the checkpoint; added to `metrics.json`.
    """
    metrics: dict[str, float] = {}
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


def table(metrics: Mapping[str, float]) -> str:
    """Format the metrics as a Markdown table, one row per metric."""
    rows = ["| evaluator | metric | value |", "|---|---|---|"]
    for key, value in metrics.items():
        evaluator, metric = key.split("/", 1)
        rows.append(f"| {evaluator} | {metric.replace('_', ' ')} | {value:.4g} |")
    return "\n".join(rows)
