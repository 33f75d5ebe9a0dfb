"""Results against cost, with the frontier: `python experiments/plot_frontier.py plot.png TABLE_OR_TRIALS...`.

The files are the `table.csv` of sweeps, or the results of experiments/search/run.py (.jsonl). A dot is a run,
and its color the method. Dashed: without training. The gray line: the best run at a cost or less.
"""

import csv
import json
import re
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cim_lightning.report.cost_curves import improvements

COSTS = {"TFLOP total": "TFLOP of training", "seconds": "seconds of training"}
RESULTS = {  # title of a plot -> columns of table.csv, and names of trials; the better one is drawn
    "k-NN, %": ("k-NN, ", "knn/(mean|pooled)_k20$"),
    "linear probe, %": ("probe, ", "linear/(mean|pooled)$"),
}


class Trial(NamedTuple):
    """A run with its costs and results, by title."""

    method: str
    costs: dict[str, float]
    results: dict[str, float]


def read_table(path: Path) -> list[Trial]:
    """Return the runs of a `table.csv`."""
    trials = []
    for row in csv.DictReader(path.read_text().splitlines()):
        method = re.search(r"(?:compare|method)=([^,]+)", row["setting"])
        results = {
            title: max(values)
            for title, (start, _) in RESULTS.items()
            if (values := [float(v) for name, v in row.items() if name.startswith(start) and v])
        }
        name = method[1].rpartition("/")[2] if method else row["setting"]
        trials.append(Trial(name, {key: float(row[key] or 0) for key in COSTS}, results))
    return trials


def read_trials(path: Path) -> list[Trial]:
    """Return the finished trials of a search."""
    trials = []
    for record in map(json.loads, path.read_text().splitlines()):
        if "error" in record:  # it failed, perhaps after some numbers were written
            continue
        numbers = record["numbers"]
        flops = numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]
        costs = {"TFLOP total": flops * numbers["images_seen"] / 1e12, "seconds": numbers["seconds"]}
        results = {
            title: max(values)
            for title, (_, pattern) in RESULTS.items()
            if (values := [v for name, v in numbers.items() if re.search(pattern, name)])
        }
        trials.append(Trial(re.split(r"[-_ ]\d|/", record["name"])[0], costs, results))
    return trials


def main(out: Path, *files: Path) -> None:
    read = {".csv": read_table, ".jsonl": read_trials}
    trials = [trial for file in files for trial in read[file.suffix](file)]
    methods = list(dict.fromkeys(trial.method for trial in trials))
    figure = Figure(figsize=(10, 3.2 * len(RESULTS)), layout="constrained")
    for row, title in zip(figure.subplots(len(RESULTS), len(COSTS), sharey="row"), RESULTS, strict=True):
        for axes, (cost, label) in zip(row, COSTS.items(), strict=True):
            for i, method in enumerate(methods):
                found = [
                    (t.costs[cost], t.results[title])
                    for t in trials
                    if t.method == method and title in t.results
                ]
                trained = [(x, y) for x, y in found if x > 0]
                if trained:
                    axes.plot(*zip(*trained, strict=True), ".", color=f"C{i}", label=method)
                if untrained := [y for x, y in found if x == 0]:
                    y = statistics.fmean(untrained)
                    axes.axhline(y, color=f"C{i}", linestyle="--", linewidth=0.8, label=method)
            points = [
                (t.costs[cost], t.results[title]) for t in trials if title in t.results and t.costs[cost] > 0
            ]
            axes.step(*zip(*improvements(points), strict=True), where="post", color="gray", linewidth=1)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set(xlabel=label, ylabel=title)
            axes.grid(alpha=0.3)
    handles = dict(zip(*figure.axes[0].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=6, fontsize=8)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
