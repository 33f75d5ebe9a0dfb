"""Results of a sweep, one dot per run: `python experiments/plot_sweep.py table.csv plot.png [untrained.csv]`.

Both tables are the `table.csv` of a sweep. Bars are means, thin lines connect the runs of a seed, and the
dashed line is the mean of the second table.
"""

import csv
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure

UNTRAINED = (
    "k-NN, ",
    "probe, ",
    "effective rank",
)  # columns, by their start, that untrained backbones have, too
SHOWN = (*UNTRAINED, "skill", "GFLOP/image")


def read(table: Path) -> list[dict[str, str]]:
    """Return the rows, with settings shortened to their value if all vary the same single key."""
    rows = list(csv.DictReader(table.open()))
    keys = {row["setting"].partition("=")[0] for row in rows}
    if len(keys) == 1 and not any(", " in row["setting"] for row in rows):
        for row in rows:
            row["setting"] = row["setting"].partition("=")[2]
    return rows


def main(table: Path, out: Path, untrained: Path | None = None) -> None:
    rows, untrained_rows = read(table), read(untrained) if untrained else []
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    columns = [name for start in SHOWN for name in rows[0] if name.startswith(start)]
    figure = Figure(figsize=(15, 2.8), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns)), columns, strict=True):
        seeds: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if row[column]:
                point = settings.index(row["setting"]), float(row[column])
                seeds.setdefault(row["seed"], []).append(point)
        for points in seeds.values():
            axes.plot(
                *zip(*points, strict=True), "o-", color="#4c78a8", alpha=0.5, markersize=4, linewidth=0.6
            )
        for i in range(len(settings)):
            values = [value for points in seeds.values() for position, value in points if position == i]
            if values:
                axes.plot([i - 0.25, i + 0.25], [statistics.fmean(values)] * 2, color="#222222")
        if untrained_rows and column.startswith(UNTRAINED):
            mean = statistics.fmean(float(row[column]) for row in untrained_rows)
            axes.axhline(mean, color="gray", linestyle="--", linewidth=1)
        axes.set(title=column, xlim=(-0.6, len(settings) - 0.4))
        axes.set_xticks(range(len(settings)), settings)
        if max(map(len, settings)) > 6:
            axes.tick_params("x", rotation=15, labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[-1].set_ylim(bottom=0)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
