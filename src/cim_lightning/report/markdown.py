"""Runs in Markdown: the table, what is different in it, what failed and what is not finished."""

from collections.abc import Sequence

from cim_lightning.report import comparison, failures, significance
from cim_lightning.report.failures import Failure
from cim_lightning.report.runs import Run, names


def markdown(title: str, runs: Sequence[Run], failed: Sequence[Failure] = ()) -> str:
    """For an issue or a notebook; the same numbers as on the page."""
    parts = [f"# {title}"]
    rows = comparison.compare(runs)
    if rows:
        parts.append(comparison.markdown(runs))
    for measure, found in significance.against_best(runs).items():
        digits = next(column.digits for column in comparison.COLUMNS if column.title == measure)
        lines = [f"* {name}: {difference.text(digits)}" for name, difference in found.items()]
        first = comparison.best(rows, measure)
        parts.append(f"{measure}, difference from {first} (t-test, uncorrected):\n\n" + "\n".join(lines))
    if failed:
        parts.append("Failed:\n\n" + "\n".join(f"* {line}" for line in failures.lines(failed, runs)))
    called = {run.folder: name for run, name in zip(runs, names(runs), strict=True)}
    begun = [f"* {called[run.folder]}: {run.folder}" for run in unfinished(runs, failed)]
    if begun:
        parts.append("Unfinished:\n\n" + "\n".join(begun))
    return "\n\n".join(parts) + "\n"


def unfinished(runs: Sequence[Run], failed: Sequence[Failure]) -> list[Run]:
    """Those that are running, or were cut off, and did not fail."""
    ended = {one.folder for one in failed}
    return [run for run in runs if not run.finished and run.folder not in ended]
