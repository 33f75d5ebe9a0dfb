"""Tables of the page; whatever comes from files is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from cim_lightning.report import comparison, significance
from cim_lightning.report.config_diff import configurations
from cim_lightning.report.runs import Run, grouped

BEST = '<strong class="best">{}</strong>'


def table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "numbers") -> str:
    """Of cells that are HTML already; it scrolls inside itself where the screen is narrow."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{_row(cells)}</tr>" for cells in rows)
    inside = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll" tabindex="0"><table class="{kind}">{inside}</table></div>'


def breakable(text: str) -> str:
    """Escaped, and allowed to go on in a new line after a point."""
    return escape(text).replace(".", ".<wbr>")


def results(runs: Sequence[Run]) -> str:
    """A row a setting: mean, sample deviation and n; what runs are for stands before what they cost."""
    rows, counts = comparison.compare(runs), {k: len(some) for k, some in comparison.finished(runs).items()}
    best = {column.title: comparison.best(rows, column.title) for column in comparison.goals(rows)}
    columns = sorted(comparison.shown(rows), key=lambda column: column.title not in best)
    lines = []
    for name, cells in rows.items():
        line = [breakable(name), str(counts[name])]
        for column in columns:
            cell = cells.get(column.title)
            text = "" if cell is None else cell.text(column.digits)
            if cell is not None and cell.n != counts[name]:
                text += f" <small>n = {cell.n}</small>"
            mark = best.get(column.title) == name
            line.append(BEST.format(text) if mark else text)
        lines.append(line)
    return table(["setting", "n", *(escape(column.title) for column in columns)], lines)


def differences(runs: Sequence[Run]) -> str | None:
    """A row a setting: how far from the best, and how likely seeds alone are to bring that about."""
    tested = significance.against_best(runs)
    if not tested:
        return None
    rows = comparison.compare(runs)
    columns = [column for column in comparison.shown(rows) if column.title in tested]
    lines = []
    for name in rows:
        line = [breakable(name)]
        for column in columns:
            found = tested[column.title].get(name)
            mark = comparison.best(rows, column.title) == name
            line.append(BEST.format("best") if mark else escape(found.text(column.digits)) if found else "")
        lines.append(line)
    return table(["setting", *(escape(column.title) for column in columns)], lines)


def settings(runs: Sequence[Run]) -> str | None:
    """A row a setting that is not the same everywhere, a column a group of runs."""
    found = configurations(runs)
    if not found:
        return None
    names = list(grouped(runs))
    lines = [
        [f"<code>{breakable(key)}</code>", *(breakable(values[name]) for name in names)]
        for key, values in found.items()
    ]
    return table(["", *map(breakable, names)], lines, "words")


def _row(cells: Iterable[str]) -> str:
    first, *others = cells
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others)
