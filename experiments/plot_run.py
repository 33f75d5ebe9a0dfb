"""Curves of one run: `python experiments/plot_run.py RUN_FOLDER curves.png`."""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from cim_lightning.metric_registry import BASELINE
from cim_lightning.report.curves import read_curves, step_costs
from cim_lightning.report.runs import read_run

PLOTS = {  # metric in the title -> logged names
    "skill": ("train/skill", "val/skill"),
    "iou": ("val/iou", f"val/iou{BASELINE}"),
    "knn": ("val/knn", "val/knn_pooled"),
    "effective_rank": ("val/effective_rank",),
}


def main(folder: Path, out: Path) -> None:
    run = read_run(folder)
    curves, images = read_curves(folder / "metrics.csv"), step_costs(run)["images"]
    figure = Figure(figsize=(12, 2.8), layout="constrained")
    for axes, (metric, names) in zip(figure.subplots(1, len(PLOTS)), PLOTS.items(), strict=True):
        for name in names:
            steps, values = curves[name]
            style = {"alpha": 0.4} if name.startswith("train/") else {"marker": "."}
            if name.endswith(BASELINE):
                style = {"color": "gray", "linestyle": "--"}
            axes.plot([step * images / 1000 for step in steps], values, label=name, **style)
        shown = run.metrics[f"val/{metric}"]
        axes.set(title=shown.with_unit(shown.title), xlabel="thousand images seen")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylim(bottom=-0.2)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
