"""Columns of the tables that compare runs."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cim_lightning.metric_registry import COLUMN, METRICS, Metric
from cim_lightning.report.runs import Run, metrics_of

Compute = Callable[[Run], float | None]
EVALUATED_KNN = "evaluation/knn/mean_k"
USUAL_K = 20


class Column(NamedTuple):
    """One column of a comparison.

    Args:
        title: unique heading.
        compute: function of a run; a KeyError means that the run did not record its numbers.
        digits: digits after the point.
        higher_is_better: whether the highest or the lowest mean is the best one; None: neither.
        name: name of the number, if it is one.
    """

    title: str
    compute: Compute
    digits: int
    higher_is_better: bool | None = None
    name: str = ""

    def value(self, run: Run) -> float | None:
        """Return the value of a run; None if it has no finite one."""
        try:
            value = self.compute(run)
        except (KeyError, ZeroDivisionError):  # of a run without training images
            return None
        return value if value is not None and math.isfinite(value) else None


def flops_per_image(numbers: dict[str, Any]) -> float:
    """Return the operations per training image, forward and backward."""
    return numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]


def _gflops_per_image(run: Run) -> float:
    return flops_per_image(run.numbers) / 1e9


def _gpu_memory(run: Run) -> float | None:
    # On a CPU, the memory of a process includes earlier jobs.
    return None if run.numbers["device"].endswith(" CPU") else run.numbers["peak_memory_bytes"] / 1e9


def _number(name: str) -> Compute:
    return lambda run: run.numbers[name]


def _online_knn(split: str, when: str, higher_is_better: bool | None) -> Column:
    knn, name = METRICS["knn"], f"{split}/knn"
    title = f"online {knn.label} {when}, {knn.unit}"
    return Column(title, _number(name), knn.digits, higher_is_better, name)


COST = (
    Column("epochs", lambda run: run.numbers["images_seen"] / run.numbers["train_images"], 2),
    Column("GFLOP/image", _gflops_per_image, 3),
    Column("TFLOP total", lambda run: _gflops_per_image(run) * run.numbers["images_seen"] / 1e3, 1),
    Column("images/s", _number("images_per_s"), 0),
    Column("seconds", _number("seconds"), 0),
    Column("peak GPU GB", _gpu_memory, 2),
)
ONLINE_KNN = _online_knn("val", "after", True)


def columns(runs: Sequence[Run]) -> list[Column]:
    """Return the columns of runs: cost, online k-NN, then the metrics that have a column."""
    shown = {name: metric for run in runs for name, metric in _evaluated(run).items()}
    shown |= {f"val/{metric.name}": metric for metric in metrics_of(runs) if COLUMN in metric.places}
    titles = {name: metric.with_unit(metric.label) for name, metric in shown.items()}
    found = [*COST, _online_knn("initial", "before", None), ONLINE_KNN]
    for name, metric in shown.items():
        title, unique = titles[name], [*titles.values()].count(titles[name]) == 1
        title = title if unique else f"{name.split('/')[-2]}: {title}"
        found.append(Column(title, _number(name), metric.digits, metric.higher_is_better, name))
    return found


def objective(run: Run) -> float | None:
    """Return the k-NN accuracy in percent, which a search maximizes: evaluated, or else online."""
    name = usual_k(name for name in run.numbers if name.startswith(EVALUATED_KNN))
    return ONLINE_KNN.value(run) if name is None else run.numbers[name]


def usual_k(names: Iterable[str]) -> str | None:
    """Return the name whose last number is closest to 20, as in "mean_k20"; None without a name."""
    return min(names, key=lambda name: abs(int(re.findall(r"\d+", name)[-1]) - USUAL_K), default=None)


def _evaluated(run: Run) -> dict[str, Metric]:
    """Return the evaluated metrics with a column; of several k-NN accuracies, that of the usual k."""
    groups: dict[str, list[str]] = {}
    for name, metric in run.metrics.items():
        if name.startswith("evaluation/") and COLUMN in metric.places:
            groups.setdefault(re.sub(r"_k\d+$", "_k", name), []).append(name)
    chosen = [group[0] if len(group) == 1 else usual_k(group) for group in groups.values()]
    return {name: run.metrics[name] for name in chosen if name is not None}
