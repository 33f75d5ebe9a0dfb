"""Tables of the page; whatever comes from files is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from cim_lightning.report import comparison, significance
from cim_lightning.report.comparison import COLUMNS
from cim_lightning.report.differences import configurations
from cim_lightning.report.runs import Run, grouped


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Of cells that are HTML already; it scrolls inside itself where the screen is narrow."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{_row(cells)}</tr>" for cells in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def results(runs: Sequence[Run]) -> str:
    """A row a setting: mean, sample deviation and n of every measure, the best in bold."""
    rows, counts = comparison.compare(runs), {name: len(some) for name, some in grouped(runs).items()}
    columns = [column for column in COLUMNS if any(column.title in cells for cells in rows.values())]
    best = {column.title: comparison.best(rows, column.title) for column in columns if column.goal}
    lines = []
    for name, cells in rows.items():
        line = [escape(name), str(counts[name])]
        for column in columns:
            cell = cells.get(column.title)
            text = "" if cell is None else cell.text(column.digits)
            if cell is not None and cell.n != counts[name]:
                text += f" <small>n = {cell.n}</small>"
            mark = best.get(column.title) == name
            line.append(f'<strong class="best" title="best">{text}</strong>' if mark else text)
        lines.append(line)
    return table(["setting", "n", *(escape(column.title) for column in columns)], lines)


def differences(runs: Sequence[Run]) -> str | None:
    """A row a setting: how far from the best, and how likely seeds alone are to bring that about."""
    tested = significance.against_best(runs)
    if not tested:
        return None
    rows = comparison.compare(runs)
    columns = [column for column in COLUMNS if column.title in tested]
    lines = []
    for name in rows:
        line = [escape(name)]
        for column in columns:
            found = tested[column.title].get(name)
            mark = comparison.best(rows, column.title) == name
            line.append("best" if mark else "" if found is None else escape(found.text(column.digits)))
        lines.append(line)
    return table(["setting", *(escape(column.title) for column in columns)], lines)


def settings(runs: Sequence[Run]) -> str | None:
    """A row a setting that is not the same everywhere, a column a group of runs."""
    found = configurations(runs)
    if not found:
        return None
    names = list(grouped(runs))
    lines = [
        [f"<code>{escape(key)}</code>", *(escape(values[name]) for name in names)]
        for key, values in found.items()
    ]
    return table(["", *map(escape, names)], lines)


def _row(cells: Iterable[str]) -> str:
    first, *others = cells
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others)
