"""Curves of one run: `python experiments/plot_run.py RUN_FOLDER curves.png`."""

import csv
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

PLOTS = {
    "correlation skill": ("train/skill", "val/skill"),
    "IoU": ("val/iou", "val/iou_constant"),
    "k-NN accuracy": ("val/knn", "val/knn_pooled"),
    "effective rank": ("val/effective_rank",),
}


def main(run: Path, out: Path) -> None:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    metrics = json.loads((run / "metrics.json").read_text())
    global_batch_size = metrics["images_seen"] / metrics["steps"]
    figure = Figure(figsize=(12, 2.8), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(PLOTS)), PLOTS.items(), strict=True):
        for name in names:
            points = [
                (int(row["step"]) * global_batch_size / 1000, float(row[name]))
                for row in rows
                if row.get(name)
            ]
            style = {"alpha": 0.4} if name.startswith("train/") else {"marker": "."}
            if "constant" in name:
                style = {"color": "gray", "linestyle": "--"}
            axes.plot(*zip(*points, strict=True), label=name, **style)
        axes.set(title=title, xlabel="thousand images seen")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylim(bottom=-0.2)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
