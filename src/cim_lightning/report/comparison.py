"""Comparison of runs by setting, with mean and standard deviation over seeds."""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cim_lightning.atomic import replacing
from cim_lightning.report.better_feature import better_features
from cim_lightning.report.columns import EVALUATED_KNN, ONLINE_KNN, Column, columns
from cim_lightning.report.runs import Run, group_by_setting


class MeanStd(NamedTuple):
    """Mean and sample standard deviation over n runs; the latter is None for one run."""

    mean: float
    std: float | None
    n: int

    def text(self, digits: int) -> str:
        std = "" if self.std is None else f" ± {self.std:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{std}"


class Comparison:
    """Finished runs by setting. Unfinished runs only help to name the settings.

    Args:
        runs: finished and unfinished runs.

    Attributes:
        runs: finished runs by setting.
        rows: statistics by setting and title of the column.
        columns: columns with at least one value.
        goals: columns in which one setting can be the best; online k-NN only without an evaluated one.
        better: columns of the better of two features, see `better_features`.
    """

    def __init__(self, runs: Sequence[Run]):
        groups = group_by_setting(runs).items()
        finished = {name: [run for run in group if run.finished] for name, group in groups}
        self.runs = {name: group for name, group in finished.items() if group}
        possible = columns(runs)
        self.rows = {name: _statistics(group, possible) for name, group in self.runs.items()}
        titles = {title for row in self.rows.values() for title in row}
        self.columns = [column for column in possible if column.title in titles]
        evaluated = any(column.name.startswith(EVALUATED_KNN) for column in self.columns)
        goals = [column for column in self.columns if column.higher_is_better is not None]
        self.goals = [column for column in goals if not (evaluated and column is ONLINE_KNN)]
        self.better = better_features(self.runs, self.goals)
        for name, group in self.runs.items():
            self.rows[name] |= _statistics(group, self.better)

    def best(self, column: Column) -> str | None:
        """Return the setting with the best mean; None without another setting, for a tie, or for no goal."""
        title, sign = column.title, 1 if column.higher_is_better else -1
        ranked = sorted((sign * row[title].mean, name) for name, row in self.rows.items() if title in row)
        unique = len(ranked) > 1 and ranked[-1][0] > ranked[-2][0]
        return ranked[-1][1] if column in (*self.goals, *self.better) and unique else None


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Write one row per finished run, in full precision, with folders relative to that of the file."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        rows, shown = csv.writer(file), columns(runs)
        rows.writerow(["setting", "seed", "folder", *(column.title for column in shown)])
        for name, group in Comparison(runs).runs.items():
            for run in group:
                inside = run.folder.is_relative_to(path.parent)
                folder = run.folder.relative_to(path.parent) if inside else run.folder
                rows.writerow([name, run.seed, folder, *(column.value(run) for column in shown)])


def _statistics(runs: Sequence[Run], columns: Sequence[Column]) -> dict[str, MeanStd]:
    row = {}
    for column in columns:
        values = [value for run in runs if (value := column.value(run)) is not None]
        if values:
            std = statistics.stdev(values) if len(values) > 1 else None
            row[column.title] = MeanStd(statistics.fmean(values), std, len(values))
    return row
