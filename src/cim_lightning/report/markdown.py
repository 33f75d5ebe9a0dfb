"""The report in Markdown, for an issue or a notebook."""

from collections.abc import Sequence

from cim_lightning.report import failures, significance
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.failures import Failure
from cim_lightning.report.runs import Run, run_titles


def markdown(title: str, runs: Sequence[Run], failed: Sequence[Failure] = ()) -> str:
    """Return the table, the differences, and the failed and unfinished runs; numbers as on the page."""
    parts, comparison = [f"# {title}"], Comparison(runs)
    if comparison.rows:
        parts.append(comparison.markdown())
    tested = significance.against_best(comparison)
    for column in comparison.goals:
        if column.title in tested:
            head = f"{column.title}, difference from {comparison.best(column)} (t-test, uncorrected)"
            differences = tested[column.title].items()
            parts.append(
                _items(head, [f"{name}: {found.text(column.digits)}" for name, found in differences])
            )
    if failed:
        parts.append(_items("Failed", failures.lines(failed, runs)))
    titles = dict(zip([run.folder for run in runs], run_titles(runs), strict=True))
    if rest := unfinished(runs, failed):
        parts.append(_items("Unfinished", [f"{titles[run.folder]}: {run.folder}" for run in rest]))
    return "\n\n".join(parts) + "\n"


def unfinished(runs: Sequence[Run], failed: Sequence[Failure]) -> list[Run]:
    """Return the runs that are running or were interrupted, and did not fail."""
    folders = {failure.folder for failure in failed}
    return [run for run in runs if not run.finished and run.folder not in folders]


def _items(head: str, items: Sequence[str]) -> str:
    return f"{head}:\n\n" + "\n".join(f"* {item}" for item in items)
