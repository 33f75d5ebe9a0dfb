"""Whether two settings differ by more than their seeds do."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from cim_lightning.report.comparison import Column, best, compare, finished, goals
from cim_lightning.report.runs import Run

ROUNDING = 1e-9  # of a measure


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
    if len(apart) < 2 or not _spread(apart, [*one, *other]):
        return None
    p = _stats().ttest_rel(one, other).pvalue
    return Difference(statistics.fmean(apart), float(p), (len(one), len(other)), True)


def welch(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """Of two samples whose deviations may differ; None of fewer than two on a side, or without any spread."""
    if min(len(one), len(other)) < 2 or not (_spread(one, one) or _spread(other, other)):
        return None
    sides = [(statistics.fmean(some), statistics.stdev(some), len(some)) for some in (one, other)]
    p = _stats().ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False).pvalue
    return Difference(sides[0][0] - sides[1][0], float(p), (len(one), len(other)), False)


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
    for column in goals(rows):
        first = best(rows, column.title)
        for name in groups:
            if first is None or name == first:
                continue
            if (difference := between(groups[name], groups[first], column)) is not None:
                found.setdefault(column.title, {})[name] = difference
    return found


def _spread(values: Sequence[float], scale: Sequence[float]) -> bool:
    """Whether values differ by more than what rounding leaves of measures of that scale."""
    return statistics.stdev(values) > ROUNDING * max(map(abs, scale))


def _stats() -> Any:
    import scipy.stats  # takes a second to import, so only where something is tested

    return scipy.stats
