"""Runs in Markdown: the table, what is different in it, and what is not finished."""

from collections.abc import Sequence

from cim_lightning.report import comparison, significance
from cim_lightning.report.runs import Run, grouped


def markdown(title: str, runs: Sequence[Run]) -> str:
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
    unfinished = [
        f"* {name}, seed {run.seed}: {run.folder}"
        for name, some in grouped(runs).items()
        for run in some
        if not run.finished
    ]
    if unfinished:
        parts.append("Unfinished:\n\n" + "\n".join(unfinished))
    return "\n\n".join(parts) + "\n"
