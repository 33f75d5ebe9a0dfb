"""What a sweep measured, a dot a run: `python experiments/plot_sweep.py table.csv plot.png [untrained.csv]`.

Both tables are a sweep's `table.csv`. Bars are means, thin lines join the runs of a seed, and the dashed
line is the mean of the second table's runs.
"""

import csv
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure

MEASURES = (
    "k-NN, %",
    "k-NN pooled, %",
    "probe, %",
    "probe pooled, %",
    "skill",
    "effective rank",
    "GFLOP an image",
)
TRAINED = ("skill", "GFLOP an image")  # of which the untrained have none


def read(table: Path) -> list[dict[str, str]]:
    """The rows, each setting told by its value alone where all vary the same."""
    rows = list(csv.DictReader(table.open()))
    keys = {row["setting"].partition("=")[0] for row in rows}
    if len(keys) == 1 and not any(", " in row["setting"] for row in rows):  # which would be several settings
        for row in rows:
            row["setting"] = row["setting"].partition("=")[2]
    return rows


def main(table: Path, out: Path, untrained: Path | None = None) -> None:
    rows, ends = read(table), read(untrained) if untrained else []
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    figure = Figure(figsize=(15, 2.8), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        seeds: dict[str, list[tuple[int, float]]] = {}
        for row in (row for row in rows if row[measure]):
            point = settings.index(row["setting"]), float(row[measure])
            seeds.setdefault(row["seed"], []).append(point)
        for points in seeds.values():
            axes.plot(
                *zip(*points, strict=True), "o-", color="#4c78a8", alpha=0.5, markersize=4, linewidth=0.6
            )
        for i in range(len(settings)):
            found = [value for points in seeds.values() for place, value in points if place == i]
            if not found:
                continue
            axes.plot([i - 0.25, i + 0.25], [statistics.fmean(found)] * 2, color="#222222")
        if ends and measure not in TRAINED:
            mean = statistics.fmean(float(row[measure]) for row in ends)
            axes.axhline(mean, color="gray", linestyle="--", linewidth=1)
        axes.set(title=measure, xlim=(-0.6, len(settings) - 0.4))
        axes.set_xticks(range(len(settings)), settings)
        if max(map(len, settings)) > 6:
            axes.tick_params("x", rotation=15, labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[-1].set_ylim(bottom=0)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
