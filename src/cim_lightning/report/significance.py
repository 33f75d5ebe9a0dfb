"""t-tests between settings, over seeds."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from cim_lightning.report.columns import Column
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import Run

ROUNDING = 1e-9  # relative to the values


class Difference(NamedTuple):
    """Difference of two means, with the two-sided p of Student's t and the number of runs on either side."""

    mean: float
    p: float
    n: tuple[int, int]
    paired: bool

    def text(self, digits: int) -> str:
        test = "paired" if self.paired else "Welch"
        n = f"n = {self.n[0]}" if self.paired else f"n = {self.n[0]}, {self.n[1]}"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.mean:+.{digits}f}, {p} ({test}, {n})"


def t_test(a: Sequence[float], b: Sequence[float], paired: bool) -> Difference | None:
    """Test a - b, with Welch's test if not paired.

    None for fewer than two values on a side, or if all values, or the differences of all pairs, are equal.
    """
    if min(len(a), len(b)) < 2:
        return None
    differences = [x - y for x, y in zip(a, b, strict=True)] if paired else []
    if not (_varies(differences, [*a, *b]) if paired else _varies(a, a) or _varies(b, b)):
        return None
    import scipy.stats  # takes a second

    stats: Any = scipy.stats
    if paired:
        mean, test = statistics.fmean(differences), stats.ttest_rel(a, b)
    else:  # from statistics, because scipy warns of precision if the values of a side are nearly equal
        sides = [(statistics.fmean(values), statistics.stdev(values), len(values)) for values in (a, b)]
        mean, test = (
            sides[0][0] - sides[1][0],
            stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False),
        )
    return Difference(mean, float(test.pvalue), (len(a), len(b)), paired)


def between(a: Sequence[Run], b: Sequence[Run], column: Column) -> Difference | None:
    """Test a column of two settings: paired if both ran once with each of the same seeds, else Welch's."""
    sides = [sorted((run.seed, v) for run in runs if (v := column.of(run)) is not None) for runs in (a, b)]
    seeds = [[seed for seed, _ in side] for side in sides]
    same = seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    values = [[value for _, value in side] for side in sides]
    return t_test(*values, paired=same)


def against_best(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    """Return the differences from the best setting that can be tested: column title -> setting."""
    tested: dict[str, dict[str, Difference]] = {}
    for column in comparison.goals:
        best = comparison.best(column)
        if best is None:
            continue
        for name, runs in comparison.runs.items():
            difference = None if name == best else between(runs, comparison.runs[best], column)
            if difference is not None:
                tested.setdefault(column.title, {})[name] = difference
    return tested


def _varies(values: Sequence[float], scale: Sequence[float]) -> bool:
    """Return whether values differ by more than rounding errors of numbers of that scale."""
    return statistics.stdev(values) > ROUNDING * max(map(abs, scale))
