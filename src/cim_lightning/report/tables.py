"""Tables of a report as plain data, which the page and Markdown format."""

from collections.abc import Sequence
from typing import NamedTuple

from cim_lightning.report import significance
from cim_lightning.report.comparison import Comparison
from cim_lightning.report.config_diff import differing_settings
from cim_lightning.report.lengths import comparisons
from cim_lightning.report.runs import Run, group_by_setting


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
    """Return one row per setting: n, then mean and deviation of the goals, then of the other columns.

    The columns of the better feature are between them.
    """
    others = [column for column in comparison.columns if column not in comparison.goals]
    columns = [*comparison.goals, *comparison.better, *others]
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


def differences(runs: Sequence[Run], reference: str | None = None) -> dict[str, Table]:
    """Return the differences from the reference, or else from the best setting: length of training -> table.

    A length without a finished run of the reference has no table.
    """
    found = {length: _differences(comparison, reference) for length, comparison in comparisons(runs).items()}
    return {length: table for length, table in found.items() if table is not None}


def _differences(comparison: Comparison, reference: str | None) -> Table | None:
    """Return one row per setting; None if nothing can be tested."""
    tested = significance.differences(comparison, reference)
    columns = [c for c in (*comparison.goals, *comparison.better) if c.title in tested]
    rows = []
    for name in comparison.rows:
        row = [Cell(name)]
        for column in columns:
            compared_with, found = tested[column.title]
            if name == compared_with:
                row.append(Cell("best" if reference is None else "reference", best=reference is None))
            else:
                difference = found.get(name)
                row.append(Cell(difference.text(column.digits), difference.note) if difference else Cell(""))
        rows.append(row)
    return Table(["setting", *(column.title for column in columns)], rows) if columns else None


def correction(reference: str | None) -> str:
    """Return what `differences` compares with, and which tests its p values are corrected for."""
    if reference is None:
        return "from the best setting. p is corrected by Holm for the tests of all pairs in a column"
    return f"from {reference}. p is corrected by Holm for the tests against it in a column"


def settings(runs: Sequence[Run]) -> Table | None:
    """Return one row per setting that differs, one column per group of runs; None if nothing differs."""
    names, differing = list(group_by_setting(runs)), differing_settings(runs)
    rows = [[Cell(key), *(Cell(values[name]) for name in names)] for key, values in differing.items()]
    return Table(["", *names], rows) if rows else None
