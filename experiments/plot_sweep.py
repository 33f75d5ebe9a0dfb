"""What a sweep measured, a dot a run: `python experiments/plot_sweep.py table.csv plot.png [untrained.csv]`.

Both tables are a sweep's `table.csv`; the mean of the second's runs is drawn as a line.
"""

import csv
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

MEASURES = ("k-NN, %", "k-NN pooled, %", "probe, %", "skill", "effective rank", "images/s")


def measured(table: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a table by setting, each told by its value alone where all vary the same."""
    rows = list(csv.DictReader(table.open()))
    keys = {row["setting"].partition("=")[0] for row in rows}
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        name = row["setting"].partition("=")[2] if len(keys) == 1 else row["setting"]
        found.setdefault(name, []).append(row)
    return found


def values(rows: Sequence[dict[str, str]], measure: str) -> list[float]:
    return [float(row[measure]) for row in rows if row[measure]]


def main(table: Path, out: Path, untrained: Path | None = None) -> None:
    settings = measured(table)
    ends = [row for rows in measured(untrained).values() for row in rows] if untrained else []
    figure = Figure(figsize=(13, 2.8), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        for i, rows in enumerate(settings.values()):
            if not (found := values(rows, measure)):
                continue
            axes.plot([i] * len(found), found, "o", color="#4c78a8", alpha=0.6, markersize=5)
            axes.plot([i - 0.25, i + 0.25], [statistics.fmean(found)] * 2, color="#222222")
        if measure not in ("skill", "images/s") and (found := values(ends, measure)):
            axes.axhline(statistics.fmean(found), color="grey", linestyle="--", linewidth=1)
        axes.set(title=measure, xlim=(-0.6, len(settings) - 0.4))
        axes.set_xticks(range(len(settings)), [*settings], rotation=20 if len(settings) < 4 else 0)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[-1].set_ylim(bottom=0)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
