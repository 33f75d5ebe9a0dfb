"""Columns of the tables that compare runs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cim_lightning.metric_registry import METRICS
from cim_lightning.report.runs import Run

Compute = Callable[[dict[str, Any]], float | None]
KNN, POOLED = METRICS["knn"].label, METRICS["knn_pooled"].label


class Column(NamedTuple):
    """One column of a comparison.

    Args:
        title: unique heading.
        compute: function of a run's numbers; a KeyError means that the run did not record them.
        digits: digits after the point.
        goal: whether the setting with the highest mean is the best one.
        superseded_by: title of a column that replaces this one as a goal.
    """

    title: str
    compute: Compute
    digits: int
    goal: bool = False
    superseded_by: str | None = None

    def value(self, run: Run) -> float | None:
        """Return the value of a run; None if it has no finite one."""
        try:
            value = self.compute(run.numbers)
        except KeyError:
            return None
        return value if value is not None and math.isfinite(value) else None


def flops_per_image(numbers: dict[str, Any]) -> float:
    """Return the operations per training image, forward and backward."""
    return numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]


def _evaluated_knn(features: str) -> Compute:
    """Return the k-NN accuracy in percent, for the evaluated number of neighbors that is closest to 20."""
    prefix = f"evaluation/knn/{features}_k"

    def compute(numbers: dict[str, Any]) -> float | None:
        ks = [int(name.removeprefix(prefix)) for name in numbers if name.startswith(prefix)]
        return 100 * numbers[f"{prefix}{min(ks, key=lambda k: abs(k - 20))}"] if ks else None

    return compute


def _number(name: str) -> Compute:
    return lambda numbers: numbers[name]


def _percent(name: str) -> Compute:
    return lambda numbers: 100 * numbers[name]


def _metric(name: str) -> Column:
    metric = METRICS[name]
    return Column(metric.label, _number(f"val/{name}"), metric.digits, bool(metric.higher_is_better))


def _gpu_memory(numbers: dict[str, Any]) -> float | None:
    # On a CPU, the memory of a process includes earlier jobs.
    return None if numbers["device"].endswith(" CPU") else numbers["peak_memory_bytes"] / 1e9


EVALUATED_KNN = Column(f"{KNN}, %", _evaluated_knn("mean"), 1, goal=True)
ONLINE_KNN = Column(f"online {KNN} after, %", _percent("val/knn"), 1, True, EVALUATED_KNN.title)
COLUMNS = (
    Column("epochs", lambda numbers: numbers["images_seen"] / numbers["train_images"], 2),
    Column("GFLOP/image", lambda numbers: flops_per_image(numbers) / 1e9, 3),
    Column("TFLOP total", lambda numbers: flops_per_image(numbers) * numbers["images_seen"] / 1e12, 1),
    Column("images/s", _number("images_per_s"), 0),
    Column("seconds", _number("seconds"), 0),
    Column("peak GPU GB", _gpu_memory, 2),
    Column(f"online {KNN} before, %", _percent("initial/knn"), 1),
    ONLINE_KNN,
    EVALUATED_KNN,
    Column(f"{POOLED}, %", _evaluated_knn("pooled"), 1, goal=True),
    Column("probe, %", _percent("evaluation/linear/mean"), 1, goal=True),
    Column("probe pooled, %", _percent("evaluation/linear/pooled"), 1, goal=True),
    *map(_metric, ("effective_rank", "skill", "target_entropy", "target_perplexity")),
)


def objective(run: Run) -> float | None:
    """Return the k-NN accuracy in percent, which a search maximizes: evaluated, or else online."""
    evaluated = EVALUATED_KNN.value(run)
    return ONLINE_KNN.value(run) if evaluated is None else evaluated
