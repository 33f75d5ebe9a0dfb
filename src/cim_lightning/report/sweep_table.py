"""`table.md` and `table.csv` in the folder of a sweep."""

from pathlib import Path

from cim_lightning.atomic import atomic_write
from cim_lightning.report import failures, tables
from cim_lightning.report.comparison import Comparison, write_csv
from cim_lightning.report.runs import read_runs


def write(folder: Path) -> str:
    """Write both tables of a sweep, and return the text of `table.md`."""
    write_csv(read_runs(folder), folder / "table.csv")
    table = text(folder)
    atomic_write(folder / "table.md", table + "\n")
    return table


def text(folder: Path) -> str:
    """Return the table of the finished runs in a folder, and the failed jobs below it."""
    runs, failed = read_runs(folder), failures.read(folder)
    comparison = Comparison(runs)
    parts = [tables.results(comparison).markdown()] if comparison.rows else []
    if failed:
        parts.append("\n".join(f"failed: {line}" for line in failures.lines(failed, runs)))
    return "\n\n".join(parts) or "No run is finished, and none failed."


def clear(folder: Path) -> None:
    """Remove both tables of a sweep that resumes."""
    for name in ("table.md", "table.csv"):
        (folder / name).unlink(missing_ok=True)
