"""Columns of the tables that compare runs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cim_lightning.metrics import METRICS
from cim_lightning.report.runs import Run

Numbers = dict[str, Any]
Value = Callable[[Numbers], float | None]
KNN, POOLED = METRICS["knn"].label, METRICS["knn_pooled"].label
EVALUATED_KNN, ONLINE_KNN = f"{KNN}, %", f"online {KNN} after, %"


class Column(NamedTuple):
    """One column of a comparison.

    Args:
        title: heading, unique.
        value: value of a run, from its numbers.
        digits: digits after the point.
        goal: whether the setting with the highest mean is the best one.
        unless: title of another column that makes this one no goal.
    """

    title: str
    value: Value
    digits: int
    goal: bool = False
    unless: str | None = None

    def of(self, run: Run) -> float | None:
        """Return the value of a run; None if it has no finite one."""
        try:
            value = self.value(run.numbers)
        except KeyError:  # not measured, or by an older version
            return None
        return value if value is not None and math.isfinite(value) else None


def _evaluated_knn(kind: str) -> Value:
    """Return the k-NN accuracy in percent with 20 neighbors, or the closest number that was evaluated."""
    prefix = f"evaluation/knn/{kind}_k"

    def value(numbers: Numbers) -> float | None:
        ks = [int(name.removeprefix(prefix)) for name in numbers if name.startswith(prefix)]
        return 100 * numbers[f"{prefix}{min(ks, key=lambda k: abs(k - 20))}"] if ks else None

    return value


def _percent(name: str) -> Value:
    return lambda numbers: 100 * numbers[name]


def _metric(name: str) -> Column:
    metric = METRICS[name]
    goal = bool(metric.higher_is_better)
    return Column(metric.label, lambda numbers: numbers[f"val/{name}"], metric.digits, goal)


def _gpu_memory(numbers: Numbers) -> float | None:
    """Return gigabytes; None for a CPU, where the memory of a process includes earlier jobs."""
    return None if numbers["device"].endswith(" CPU") else numbers["peak_memory_bytes"] / 1e9


def _flops(numbers: Numbers) -> float:
    return numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]


COLUMNS = (
    Column("epochs", lambda numbers: numbers["images_seen"] / numbers["train_images"], 2),
    Column("GFLOP an image", lambda numbers: _flops(numbers) / 1e9, 3),
    Column("TFLOP in all", lambda numbers: _flops(numbers) * numbers["images_seen"] / 1e12, 1),
    Column("images/s", lambda numbers: numbers["images_per_s"], 0),
    Column("seconds", lambda numbers: numbers["seconds"], 0),
    Column("peak GPU GB", _gpu_memory, 2),
    Column(f"online {KNN} before, %", _percent("initial/knn"), 1),
    Column(ONLINE_KNN, _percent("val/knn"), 1, goal=True, unless=EVALUATED_KNN),
    Column(EVALUATED_KNN, _evaluated_knn("mean"), 1, goal=True),
    Column(f"{POOLED}, %", _evaluated_knn("pooled"), 1, goal=True),
    Column("probe, %", _percent("evaluation/linear/mean"), 1, goal=True),
    Column("probe pooled, %", _percent("evaluation/linear/pooled"), 1, goal=True),
    *map(_metric, ("effective_rank", "skill", "target_entropy", "target_perplexity")),
)


def objective(run: Run) -> float | None:
    """Return what a search maximizes: the k-NN accuracy in percent, from the evaluation or else online."""
    columns = {column.title: column for column in COLUMNS}
    evaluated = columns[EVALUATED_KNN].of(run)
    return columns[ONLINE_KNN].of(run) if evaluated is None else evaluated
