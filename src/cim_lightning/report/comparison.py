"""One table of several runs: one row per setting, with mean and standard deviation over seeds."""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cim_lightning.atomic import atomic_write, replacing
from cim_lightning.report import failures
from cim_lightning.report.columns import COLUMNS, Column
from cim_lightning.report.runs import Run, group_by_setting, read_runs


class Cell(NamedTuple):
    """Mean and sample standard deviation over n runs; no deviation of one run."""

    mean: float
    deviation: float | None
    n: int

    def text(self, digits: int) -> str:
        deviation = "" if self.deviation is None else f" ± {self.deviation:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{deviation}"


class Comparison:
    """Finished runs by setting. Unfinished ones only help to name the settings.

    Args:
        runs: finished and unfinished runs.

    Attributes:
        runs: finished runs by setting.
        rows: cells by setting and title of the column.
        columns: columns with at least one cell.
        goals: columns in which one setting can be the best.
    """

    def __init__(self, runs: Sequence[Run]):
        groups = {
            name: [run for run in group if run.finished] for name, group in group_by_setting(runs).items()
        }
        self.runs = {name: group for name, group in groups.items() if group}
        self.rows = {name: _cells(group) for name, group in self.runs.items()}
        titles = {title for cells in self.rows.values() for title in cells}
        self.columns = [column for column in COLUMNS if column.title in titles]
        self.goals = [column for column in self.columns if column.goal and column.unless not in titles]

    def best(self, column: Column) -> str | None:
        """Return the setting with the highest mean in a goal; None without another setting, or for a tie."""
        title = column.title
        ranked = sorted((cells[title].mean, name) for name, cells in self.rows.items() if title in cells)
        alone = len(ranked) > 1 and ranked[-1][0] > ranked[-2][0]
        return ranked[-1][1] if column in self.goals and alone else None

    def markdown(self) -> str:
        """Return a Markdown table with the number of runs, and the best of each goal in bold."""
        lines = ["| | runs | " + " | ".join(column.title for column in self.columns) + " |"]
        lines.append("|---|---|" + "---|" * len(self.columns))
        for name, cells in self.rows.items():
            texts = [str(len(self.runs[name]))]
            for column in self.columns:
                text = cells[column.title].text(column.digits) if column.title in cells else ""
                texts.append(f"**{text}**" if self.best(column) == name else text)
            lines.append(f"| {name} | " + " | ".join(texts) + " |")
        return "\n".join(lines)


def _cells(runs: Sequence[Run]) -> dict[str, Cell]:
    cells = {}
    for column in COLUMNS:
        values = [value for run in runs if (value := column.of(run)) is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            cells[column.title] = Cell(statistics.fmean(values), deviation, len(values))
    return cells


def write_table(folder: Path) -> str:
    """Write `table.md`, which is returned, and `table.csv`, one row per run, into the folder of a sweep."""
    write_csv(read_runs(folder), folder / "table.csv")
    text = format_table(folder)
    atomic_write(folder / "table.md", text + "\n")
    return text


def format_table(folder: Path) -> str:
    """Return the table of the finished runs in a folder, and the failed jobs below it."""
    runs, failed = read_runs(folder), failures.read(folder)
    comparison = Comparison(runs)
    parts = [comparison.markdown()] if comparison.rows else []
    if failed:
        parts.append("\n".join(f"failed: {line}" for line in failures.lines(failed, runs)))
    return "\n\n".join(parts) or "No run is finished, and none failed."


def clear_table(folder: Path) -> None:
    """Remove the table of a sweep that resumes."""
    for name in ("table.md", "table.csv"):
        (folder / name).unlink(missing_ok=True)


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Write one row per finished run, in full precision, with folders relative to that of the file."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["setting", "seed", "folder", *(column.title for column in COLUMNS)])
        for name, group in Comparison(runs).runs.items():
            for run in group:
                inside = run.folder.is_relative_to(path.parent)
                folder = run.folder.relative_to(path.parent) if inside else run.folder
                rows.writerow([name, run.seed, folder, *(column.of(run) for column in COLUMNS)])
