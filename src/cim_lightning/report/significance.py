"""Whether two settings differ by more than their seeds do."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from cim_lightning.report.comparison import COLUMNS, Column, best, compare, finished
from cim_lightning.report.runs import Run

STEPS = 1000  # of the continued fraction, which takes some dozens


class Difference(NamedTuple):
    """Of two means, with the two-sided p of Student's t; n are the runs on either side."""

    mean: float
    p: float
    n: tuple[int, int]
    paired: bool

    def text(self, digits: int) -> str:
        how = "paired" if self.paired else "Welch"
        n = f"n = {self.n[0]}" if self.paired else f"n = {self.n[0]}, {self.n[1]}"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.mean:+.{digits}f}, {p} ({how}, {n})"


def paired(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """Of values that belong together, one by one; None of fewer than two, or if all differ by the same."""
    apart = [a - b for a, b in zip(one, other, strict=True)]
    n = len(apart)
    if n < 2 or not (spread := statistics.stdev(apart)):
        return None
    mean = statistics.fmean(apart)
    return Difference(mean, student_p(mean / spread * math.sqrt(n), n - 1), (n, n), True)


def welch(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """Of two samples whose deviations may differ; None of fewer than two on a side, or without any spread."""
    if min(len(one), len(other)) < 2:
        return None
    mean = statistics.fmean(one) - statistics.fmean(other)
    a, b = (statistics.variance(some) / len(some) for some in (one, other))
    if not a + b:
        return None
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return Difference(mean, student_p(mean / math.sqrt(a + b), freedom), (len(one), len(other)), False)


def between(one: Sequence[Run], other: Sequence[Run], column: Column) -> Difference | None:
    """Of two settings in a measure: paired where both ran under the same seeds, once each; else Welch's."""
    sides = [
        [(run.seed, value) for run in runs if (value := column.of(run)) is not None] for runs in (one, other)
    ]
    seeds = [sorted(seed for seed, _ in side) for side in sides]
    same = seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    a, b = ([value for _, value in sorted(side)] for side in sides)
    return paired(a, b) if same else welch(a, b)


def against_best(runs: Sequence[Run]) -> dict[str, dict[str, Difference]]:
    """Every setting's difference from the best, by the measure's title; what cannot be tested is left out."""
    rows, groups = compare(runs), finished(runs)
    found: dict[str, dict[str, Difference]] = {}
    for column in COLUMNS:
        first = best(rows, column.title) if column.goal else None
        for name in groups:
            if first is None or name == first:
                continue
            if (difference := between(groups[name], groups[first], column)) is not None:
                found.setdefault(column.title, {})[name] = difference
    return found


def student_p(t: float, freedom: float) -> float:
    """The chance of a Student's t at least as far from 0, on either side."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised one, I_x(a, b), by Lentz's continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the mirrored one converges sooner
        return 1 - _incomplete_beta(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    c, d, value = 1.0, 1 / (1 - (a + b) * x / (a + 1)), 1 / (1 - (a + b) * x / (a + 1))
    for m in range(1, STEPS):
        last = value
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + factor * d)
            c = 1 + factor / c
            value *= c * d
        if abs(value - last) <= 1e-15 * abs(value):
            break
    return math.exp(front) * value / a
