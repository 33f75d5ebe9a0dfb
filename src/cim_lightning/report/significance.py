"""t-tests between settings, over seeds."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from cim_lightning.report.columns import Column
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import Run

ROUNDING = 1e-9  # largest rounding error, relative to the largest value


class Difference(NamedTuple):
    """Difference of two means, with the two-sided p of Student's t and the number of runs on either side."""

    mean: float
    p: float
    n: tuple[int, int]
    paired: bool

    def text(self, digits: int) -> str:
        test = f"paired, n = {self.n[0]}" if self.paired else f"Welch, n = {self.n[0]}, {self.n[1]}"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.mean:+.{digits}f}, {p} ({test})"


def t_test(a: Sequence[float], b: Sequence[float], paired: bool) -> Difference | None:
    """Test a - b, with Welch's test if not paired.

    None for fewer than two values on a side, or if all values, or the differences of all pairs, are equal.
    """
    if min(len(a), len(b)) < 2:
        return None
    samples = [[x - y for x, y in zip(a, b, strict=True)]] if paired else [a, b]
    if max(map(statistics.stdev, samples)) <= ROUNDING * max(map(abs, [*a, *b])):
        return None
    import scipy.stats  # takes a second

    stats: Any = scipy.stats
    if paired:
        test = stats.ttest_rel(a, b)
    else:  # from statistics, because scipy warns of precision if the values of a side are nearly equal
        sides = [(statistics.fmean(values), statistics.stdev(values), len(values)) for values in (a, b)]
        test = stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False)
    mean = statistics.fmean(a) - statistics.fmean(b)
    return Difference(mean, float(test.pvalue), (len(a), len(b)), paired)


def between(a: Sequence[Run], b: Sequence[Run], column: Column) -> Difference | None:
    """Test a column of two settings: paired if both ran once with each of the same seeds, else Welch's."""
    sides = [sorted((run.seed, v) for run in runs if (v := column.value(run)) is not None) for runs in (a, b)]
    seeds = [[seed for seed, _ in side] for side in sides]
    same = seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    values = [[value for _, value in side] for side in sides]
    return t_test(*values, paired=same)


def against_best(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    """Return the differences from the best setting that can be tested: column title -> setting."""
    tested: dict[str, dict[str, Difference]] = {}
    for column in comparison.goals:
        best = comparison.runs.get(comparison.best(column) or "")
        for name, runs in comparison.runs.items():
            if best and runs is not best and (difference := between(runs, best, column)):
                tested.setdefault(column.title, {})[name] = difference
    return tested
