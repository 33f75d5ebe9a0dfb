"""Runs of different lengths of training: settings at several budgets, and comparisons at one budget."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from cim_lightning.report.comparison import Comparison
from cim_lightning.report.runs import Run, differing_keys, group_by_setting

LENGTHS = ("budget", "budget.petaflop", "budget.images", "trainer.max_epochs", "trainer.max_steps")
MAX_SERIES = 10  # above, the trials of a method are one series


class Series(NamedTuple):
    """Runs in groups of one setting, by the name of their series.

    Args:
        groups: of each series.
        connected: whether the groups of a series differ in the length of training only.
    """

    groups: dict[str, list[list[Run]]]
    connected: bool


def series(runs: Sequence[Run]) -> Series:
    """Group runs by everything except the length of training, and then by the length.

    With more than MAX_SERIES of these series, as in a search, the methods are the series.
    """
    names = {
        run.folder: name for name, group in group_by_setting(map(_any_length, runs)).items() for run in group
    }
    connected = len(set(names.values())) <= MAX_SERIES
    if not connected:
        names = {run.folder: str(run.info["choices"]["method"]) for run in runs}
    grouped: dict[str, list[list[Run]]] = {}
    for group in group_by_setting(runs).values():
        grouped.setdefault(names[group[0].folder], []).append(group)
    return Series(grouped, connected)


def comparisons(runs: Sequence[Run]) -> dict[str, Comparison]:
    """Return one comparison per length, by its overrides; one without a name if nothing else was varied.

    The names of the settings are without the length.
    """
    keys = [key for key in differing_keys(runs) if key in LENGTHS]
    if not keys or len(group_by_setting(map(_any_length, runs))) == 1:
        return {"": Comparison(runs)}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        name = ", ".join(f"{key}={run.overrides[key]}" for key in keys if key in run.overrides)
        groups.setdefault(name or "default length", []).append(_any_length(run))
    return {name: Comparison(group) for name, group in groups.items()}


def _any_length(run: Run) -> Run:
    """Return the run without the overrides that set the length of training."""
    overrides, swept = ({k: v for k, v in d.items() if k not in LENGTHS} for d in (run.overrides, run.swept))
    return replace(run, overrides=overrides, swept=swept)
