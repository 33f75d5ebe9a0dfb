"""Run all evaluators; a rerun uses the cached results, and a failure does not stop the others."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from cim_lightning.atomic import read_json, write_json
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext, Evaluator
from cim_lightning.evaluation.distributed import from_first_process, processes_of_machine
from cim_lightning.evaluation.estimate import check_memory, estimate_cost
from cim_lightning.evaluation.results import Results, open_results
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)
Explain = Callable[[BaseException], str | None]


def evaluate(
    evaluators: Mapping[str, Evaluator],
    context: EvalContext,
    args: Mapping[str, Any],
    description: Mapping[str, Any],
    requested: Collection[str] = (),
    explain: Explain = lambda error: str(error) if isinstance(error, ConfigError) else None,
) -> Results:
    """Run every evaluator that applies, and add the results to those in the context's folder.

    After each evaluator, the first process updates `metrics.json` and `table.md`.

    Args:
        args: plain values that determine the metrics, by evaluator. If `evaluators/<evaluator>.json` has the
            same values, its metrics are used.
        description: entries that describe the weights, such as the checkpoint; added to `metrics.json`.
        requested: evaluators that must apply; the others are skipped if they do not.
        explain: returns one line about a user's error, and None for any other.

    Raises:
        ConfigError: a requested evaluator does not apply, or the features need more memory than is free.
    """
    skipped = check_applicable(evaluators, context, requested)
    folder = context.folder / "evaluators"
    keys = {name: json.loads(json.dumps(args[name])) for name in evaluators if name not in skipped}
    found = {name: read_json(folder / f"{name}.json") for name in keys}
    cached = {name: content for name, content in found.items() if content.get("args") == keys[name]}
    cached = from_first_process(cached)  # the others may see files that it has written since
    results = open_results(context.folder, description, context.cache_key) if context.rank == 0 else Results()
    if context.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    results.skip(skipped)
    missing = {name: evaluators[name] for name in keys if name not in cached}
    cost = estimate_cost(missing, context)
    if cost.seconds:
        log.info("%s", cost)
    check_memory(cost.memory, processes_of_machine())
    for name in keys:
        log.info("%s%s", name, ": cached" if name in cached else " ...")
        try:
            content = cached.get(name) or _run(evaluators[name], context)
        except Exception as error:
            if isinstance(error, ConfigError):
                error.group = error.group or f"evaluation.{name}"
            _record_failure(results, name, error, explain)
            if context.world_size > 1:  # the other processes may wait for this one
                _write(results, context)
                raise
        else:
            results.add(name, content["numbers"], evaluators[name].metrics, content["protocol"])
            if context.rank == 0 and name not in cached:
                write_json(folder / f"{name}.json", {"args": keys[name], **content})
        _write(results, context)
    _write(results, context)  # also without an evaluator that applies
    return results


def check_applicable(
    evaluators: Mapping[str, Evaluator], context: EvalContext, requested: Collection[str]
) -> dict[str, str]:
    """Return the reason why each skipped evaluator does not apply.

    Raises:
        ConfigError: a requested evaluator does not apply, or a setting does not fit the backbone or the data.
    """
    reasons = {}
    for name, evaluator in evaluators.items():
        try:
            with fork_rng(context.seed):  # some build a network to check it
                reasons[name] = evaluator.applies(context)
        except ConfigError as error:
            error.group = error.group or f"evaluation.{name}"
            raise
    skipped = {name: reason for name, reason in reasons.items() if reason is not None}
    if refused := [f"{name} {reason}" for name, reason in skipped.items() if name in requested]:
        raise ConfigError(f"{', '.join(refused)}; try evaluation=all, which skips what does not apply")
    for name, reason in skipped.items():
        log.info("%s: skipped, because it %s", name, reason)
    return skipped


def _run(evaluator: Evaluator, context: EvalContext) -> dict[str, Any]:
    """Return the numbers and the protocol of an evaluator."""
    context.protocol = {"preprocessing": str(context.preprocessing)}
    # Independent of the evaluators before, and of the caller's gradient mode.
    with fork_rng(context.seed), torch.enable_grad():
        numbers = evaluator(context)
    return {"numbers": numbers, "protocol": context.protocol}


def _write(results: Results, context: EvalContext) -> None:
    if context.rank == 0:
        if images := getattr(context.data, "bad_images", None):
            results.description["bad_images"] = images.count()
        results.write(context.folder)


def _record_failure(results: Results, name: str, error: Exception, explain: Explain) -> None:
    line = explain(error)
    if line is None:  # not a user's error
        log.error("%s failed", name, exc_info=error)
        line = " ".join(f"{type(error).__name__}: {error}".split())
    else:
        log.error("%s failed: %s", name, line)
    results.remove(name)
    results.failed[name] = line
