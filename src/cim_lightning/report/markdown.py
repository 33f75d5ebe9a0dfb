"""The report in Markdown, for an issue or a notebook."""

from collections.abc import Sequence

from cim_lightning.report import failures, tables
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.failures import Failure
from cim_lightning.report.runs import Run, run_titles


def markdown(
    title: str, runs: Sequence[Run], failed: Sequence[Failure] = (), reference: str | None = None
) -> str:
    """Return the table, the differences, and the failed and unfinished runs; numbers as on the page."""
    parts, comparison = [f"# {title}"], Comparison(runs)
    if comparison.rows:
        parts.append(tables.results(comparison).markdown())
    for length, differences in tables.differences(runs, reference).items():
        at = f" ({length})" if length else ""
        parts += [f"Differences{at} {tables.correction(reference)}:", differences.markdown()]
    folders = [run.folder for run in unfinished(runs, failed)]
    titles = zip(run_titles(runs), runs, strict=True)
    rest = [f"{title}: {run.folder}" for title, run in titles if run.folder in folders]
    for head, items in (("Failed", failures.lines(failed, runs)), ("Unfinished", rest)):
        if items:
            parts.append(f"{head}:\n\n" + "\n".join(f"* {item}" for item in items))
    return "\n\n".join(parts) + "\n"


def unfinished(runs: Sequence[Run], failed: Sequence[Failure]) -> list[Run]:
    """Return the runs that are running or were interrupted, and did not fail."""
    folders = {failure.folder for failure in failed}
    return [run for run in runs if not run.finished and run.folder not in folders]
