"""Tables of a report as plain data, which the page and Markdown format."""

from collections.abc import Sequence
from typing import NamedTuple

from cim_lightning.report.comparison import Comparison
from cim_lightning.report.config_diff import differing_settings
from cim_lightning.report.runs import Run, group_by_setting
from cim_lightning.report.significance import against_best


class Cell(NamedTuple):
    """Text, a note in small print, and whether the cell is the best of its column."""

    text: str
    note: str = ""
    best: bool = False


class Table(NamedTuple):
    """Heading and rows; the first cell of a row is its heading."""

    head: list[str]
    rows: list[list[Cell]]

    def markdown(self) -> str:
        """Format the table in Markdown, with the best cells in bold."""
        rows = [self.head, ["---"] * len(self.head)]
        rows += [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def results(comparison: Comparison) -> Table:
    """Return one row per setting: n, then mean and deviation of the goals, then of the other columns."""
    columns = sorted(comparison.columns, key=lambda column: column not in comparison.goals)
    rows = []
    for name, row in comparison.rows.items():
        n = len(comparison.runs[name])
        cells = [Cell(name), Cell(str(n))]
        for column in columns:
            found = row.get(column.title)
            text = found.text(column.digits) if found else ""
            note = f"n = {found.n}" if found and found.n != n else ""
            cells.append(Cell(text, note, comparison.best(column) == name))
        rows.append(cells)
    return Table(["setting", "n", *(column.title for column in columns)], rows)


def differences(comparison: Comparison) -> Table | None:
    """Return one row per setting: difference from the best one and its p; None if nothing can be tested."""
    tested = against_best(comparison)
    columns = [column for column in comparison.goals if column.title in tested]
    rows = []
    for name in comparison.rows:
        row = [Cell(name)]
        for column in columns:
            found, best = tested[column.title].get(name), comparison.best(column) == name
            row.append(Cell("best" if best else found.text(column.digits) if found else "", best=best))
        rows.append(row)
    return Table(["setting", *(column.title for column in columns)], rows) if columns else None


def settings(runs: Sequence[Run]) -> Table | None:
    """Return one row per setting that differs, one column per group of runs; None if nothing differs."""
    names, differing = list(group_by_setting(runs)), differing_settings(runs)
    rows = [[Cell(key), *(Cell(values[name]) for name in names)] for key, values in differing.items()]
    return Table(["", *names], rows) if rows else None
