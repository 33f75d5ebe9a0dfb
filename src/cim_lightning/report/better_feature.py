"""The better of two features, mean over the grid or pooled vector, which is chosen for each setting."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cim_lightning.report.columns import Column
from cim_lightning.report.runs import Run

MEAN = re.compile(r"/mean(?=_|$)")  # in the name of a metric, as in evaluation/knn/mean_k20


def better_features(runs: Mapping[str, Sequence[Run]], goals: Sequence[Column]) -> list[Column]:
    """Return one column for each metric of both features: its values are those of the better feature.

    The feature is that with the better mean over the runs of a setting, not the better one of each run,
    which would favor settings whose runs differ.

    Args:
        runs: finished runs by setting.
        goals: columns in which one setting can be the best.
    """
    by_name = {column.name: column for column in goals if column.name}
    pairs = [(column, by_name.get(MEAN.sub("/pooled", name))) for name, column in by_name.items()]
    return [_better(runs, mean, pooled) for mean, pooled in pairs if pooled not in (None, mean)]


def _better(runs: Mapping[str, Sequence[Run]], mean: Column, pooled: Column) -> Column:
    chosen: dict[Path, Column] = {}
    for group in runs.values():
        sign = 1 if mean.higher_is_better else -1
        means = {c: sign * value for c in (mean, pooled) if (value := _mean(group, c)) is not None}
        if means:
            better = max(means, key=lambda column: means[column])
            chosen |= dict.fromkeys((run.folder for run in group), better)
    title = mean.title.replace("mean", "better of mean and pooled")
    return Column(title, lambda run: chosen[run.folder].value(run), mean.digits, mean.higher_is_better)


def _mean(runs: Sequence[Run], column: Column) -> float | None:
    values = [value for run in runs if (value := column.value(run)) is not None]
    return statistics.fmean(values) if values else None
