"""Results against the cost of training: of settings at several budgets, and during training."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cim_lightning.report.columns import Column
from cim_lightning.report.curves import Curve, step_costs
from cim_lightning.report.runs import Run


class Point(NamedTuple):
    """Result of a setting at one cost.

    Args:
        costs: mean cost of its runs on each axis of curves.AXES that all of them recorded.
        mean, low, high: of the values of its runs.
        n: number of runs.
    """

    costs: dict[str, float]
    mean: float
    low: float
    high: float
    n: int


def total_costs(run: Run) -> dict[str, float]:
    """Return the cost of a finished run on each axis of curves.AXES, as far as it recorded it."""
    return {axis: cost * run.numbers.get("steps", 0) for axis, cost in step_costs(run).items()}


def final_point(runs: Sequence[Run], column: Column) -> Point | None:
    """Return the result after training; None if no run has one."""
    values = {run.folder: value for run in runs if (value := column.value(run)) is not None}
    return _point([(total_costs(run), values[run.folder]) for run in runs if run.folder in values])


def training_points(runs: Sequence[Run], curves: Sequence[Curve]) -> list[Point]:
    """Return the results during training, from one curve per run with values at as many steps.

    Values before the first step are left out.
    """
    costs = [step_costs(run) for run in runs]
    points = []
    for row in zip(*(zip(*curve, strict=True) for curve in curves), strict=True):
        at = [
            ({k: c * step for k, c in per.items()}, value)
            for per, (step, value) in zip(costs, row, strict=True)
        ]
        if all(step > 0 for step, _ in row) and (point := _point(at)) is not None:
            points.append(point)
    return points


def frontier(runs: Iterable[Run], column: Column, axis: str) -> tuple[list[float], list[float]]:
    """Return costs, and the best result of any run at that cost or less, where it improves."""
    found = [(total_costs(run).get(axis), column.value(run)) for run in runs]
    pairs = [(cost, value) for cost, value in found if cost is not None and value is not None]
    best = improvements(pairs, column.higher_is_better is not False)
    return [cost for cost, _ in best], [value for _, value in best]


def improvements(
    points: Iterable[tuple[float, float]], higher_is_better: bool = True
) -> list[tuple[float, float]]:
    """Return the points (cost, value) that are better than all of the same or a lower cost, by cost."""
    sign = 1 if higher_is_better else -1
    best: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not best or sign * value > sign * best[-1][1]:
            best.append((cost, value))
    return best


def _point(results: Sequence[tuple[dict[str, float], float]]) -> Point | None:
    if not results:
        return None
    axes = set.intersection(*(set(costs) for costs, _ in results))
    costs = {axis: statistics.fmean(costs[axis] for costs, _ in results) for axis in sorted(axes)}
    values = [value for _, value in results]
    return Point(costs, statistics.fmean(values), min(values), max(values), len(values))
