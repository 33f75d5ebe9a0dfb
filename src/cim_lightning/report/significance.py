"""t-tests between settings, over seeds, corrected for the number of tests."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cim_lightning.report.columns import Column
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import Run

ROUNDING = 1e-9  # largest rounding error, relative to the largest value


class Difference(NamedTuple):
    """Difference of two means, with a t-test.

    Args:
        mean: of the first setting minus that of the second.
        p: two-sided p of Student's t.
        n: number of runs on either side.
        paired: whether the runs are paired by their seeds; else it is Welch's test.
        corrected: p corrected for the number of tests, by Holm.
        tests: number of tests.
    """

    mean: float
    p: float
    n: tuple[int, int]
    paired: bool
    corrected: float
    tests: int = 1

    def text(self, digits: int) -> str:
        """Return the difference, the corrected p, and the test."""
        test = f"paired, n = {self.n[0]}" if self.paired else f"Welch, n = {self.n[0]}, {self.n[1]}"
        number = f"{self.tests} test{'' if self.tests == 1 else 's'}"
        return f"{self.mean:+.{digits}f}, {_p_text(self.corrected)} ({test}; {number})"

    @property
    def note(self) -> str:
        """The p of this test alone."""
        return f"{_p_text(self.p)} alone"


class Differences(NamedTuple):
    """Differences of settings from a reference, by the name of the setting."""

    reference: str
    by_setting: dict[str, Difference]


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
    mean, p = statistics.fmean(a) - statistics.fmean(b), float(test.pvalue)
    return Difference(mean, p, (len(a), len(b)), paired, corrected=p)


def between(a: Sequence[Run], b: Sequence[Run], column: Column) -> Difference | None:
    """Test a column of two settings: paired if both ran once with each of the same seeds, else Welch's."""
    sides = [sorted((run.seed, v) for run in runs if (v := column.value(run)) is not None) for runs in (a, b)]
    seeds = [[seed for seed, _ in side] for side in sides]
    same = seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    values = [[value for _, value in side] for side in sides]
    return t_test(*values, paired=same)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order.

    The probability that any true null hypothesis has a corrected p below alpha is at most alpha.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected, highest = [1.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, (len(ps) - rank) * ps[i])
        corrected[i] = min(highest, 1.0)
    return corrected


def differences(comparison: Comparison, reference: str | None = None) -> dict[str, Differences]:
    """Return the differences that can be tested, by the title of the column.

    Args:
        comparison: finished runs by setting.
        reference: name of a setting; p is corrected for the tests of a column against it. None: the best
            setting of each column; p is corrected for the tests of all pairs, which covers the choice of the
            best.
    """
    tested = {}
    for column in (*comparison.goals, *comparison.better):
        name = comparison.best(column) if reference is None else reference
        if name not in comparison.runs:
            continue
        others = [other for other in comparison.runs if other != name]
        pairs = [(other, name) for other in others]
        if reference is None:
            pairs += itertools.combinations(others, 2)
        by_pair = _corrected(comparison, pairs, column)
        found = {other: by_pair[other, name] for other in others if (other, name) in by_pair}
        if found:
            tested[column.title] = Differences(name, found)
    return tested


def _corrected(
    comparison: Comparison, pairs: Iterable[tuple[str, str]], column: Column
) -> dict[tuple[str, str], Difference]:
    """Return the corrected tests of the pairs of settings that can be tested."""
    found = {(a, b): between(comparison.runs[a], comparison.runs[b], column) for a, b in pairs}
    tests = {pair: difference for pair, difference in found.items() if difference is not None}
    corrected = holm([difference.p for difference in tests.values()])
    return {
        pair: difference._replace(corrected=p, tests=len(tests))
        for (pair, difference), p in zip(tests.items(), corrected, strict=True)
    }


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
