"""Metrics of the pretext task on validation images, by scale and rotation of the exemplars."""

import csv
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torchmetrics.functional.classification import binary_auroc
from tqdm import tqdm

from cim_lightning.atomic import replacing
from cim_lightning.checks import check_at_least, check_each_within
from cim_lightning.cropping import correlation_metrics
from cim_lightning.cropping.correlation_metrics import (
    estimate_mean_map_baseline,
    iou_and_pointing,
    mean_map_logits,
)
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.requirements import needs_cim, needs_val_images
from cim_lightning.metric_registry import BASELINE, Metric, find

PLOTTED = ("skill", "iou", "pointing", "auc")
AUC = Metric("auc", "area under the ROC curve", higher_is_better=True, baseline=f"auc{BASELINE}")
THRESHOLDS = 200  # of the ROC curve; its memory does not grow with the number of images


@dataclass
class CorrelationGrid:
    """Skill, IoU, pointing accuracy and area under the ROC curve, of the method and of the mean-map baseline.

    They are computed for the cropping of pre-training, then for every combination of a scale and a rotation.
    Each has its own baseline, whose skill is 0 by definition.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        *(metric._replace(places=()) for metric in (*correlation_metrics.METRICS, AUC)),
        Metric(f"*{BASELINE}", "* of the mean-map baseline"),
    )

    scales: list[float]  # exemplar areas before rotation, as shares of the view
    rotations: list[float]  # largest angles in degrees
    num_images: int  # validation images

    def __post_init__(self) -> None:
        check_at_least("num_images", self.num_images, 1)
        if not all(0 < scale <= 1 for scale in self.scales):
            raise ConfigError("scales", self.scales, "must be above 0 and at most 1", suggest=[0.1])
        check_each_within("rotations", self.rotations, 0, 180)

    def applies(self, context: EvalContext) -> str | None:
        return needs_cim(context) or needs_val_images(context)

    def forward_passes(self, context: EvalContext) -> float:
        cropping, images = context.data.cropping, context.num_images("val", self.num_images)
        pixels = cropping.context_size**2 + cropping.num_exemplars * cropping.exemplar_size**2
        combinations = 1 + len(self.scales) * len(self.rotations)
        return combinations * images * pixels / context.data.view.size**2

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics; write those of each combination to correlation.csv and correlation.png."""
        cropping = context.data.cropping
        names = ("num_exemplars", "scale", "ratio", "rotation", "context_size", "exemplar_size")
        settings = {name: getattr(cropping, name) for name in names}
        context.record(val_images=context.num_images("val", self.num_images), **settings)
        metrics = self.evaluate_cropping(context, cropping)
        grid = [(scale, rotation) for scale in self.scales for rotation in self.rotations]
        rows = []
        for scale, rotation in tqdm(grid, "correlation", leave=False, disable=None):
            fixed = replace(cropping, scale=[scale, scale], rotation=rotation)
            rows.append({"scale": scale, "rotation": rotation} | self.evaluate_cropping(context, fixed))
        if context.rank == 0:
            with replacing(context.folder / "correlation.csv") as path, path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0] if rows else ())
                writer.writeheader()
                writer.writerows(rows)
            draw(rows, self.scales, self.rotations).savefig(context.folder / "correlation.png", dpi=110)
        return metrics

    @torch.no_grad()
    def evaluate_cropping(self, context: EvalContext, cropping: Any) -> dict[str, float]:
        """Return the metrics with one cropping; "<metric>_baseline" is the value of the mean-map baseline."""
        method = context.method.to(context.device).eval()
        baseline = estimate_mean_map_baseline(cropping)
        batches, map_batches = [], []
        for batch in context.batches("val", self.num_images, shard=False):
            crops = cropping(batch.views.to(context.device), batch.seeds)
            batches.append(method(crops).float().cpu())
            map_batches.append(crops.maps.cpu())
        logits, maps = torch.cat(batches), torch.cat(map_batches)
        loss = F.binary_cross_entropy_with_logits(logits, maps.float())
        size = (maps.shape[-2], maps.shape[-1])
        mean_map = F.interpolate(mean_map_logits(cropping)[None, None], size, mode="bilinear")
        metrics = {"skill": baseline.skill(loss)} | iou_and_pointing(logits, maps)
        for name, scores in (("auc", logits), (f"auc{BASELINE}", mean_map.expand_as(logits))):
            shares = scores.sigmoid().flatten()
            metrics[name] = binary_auroc(shares, maps.flatten().int(), thresholds=THRESHOLDS)
        metrics |= {f"iou{BASELINE}": baseline.iou, f"pointing{BASELINE}": baseline.pointing}
        return {name: float(value) for name, value in metrics.items()}


def draw(rows: list[dict[str, float]], scales: list[float], rotations: list[float]) -> Figure:
    """Draw one heat map per metric, scales by rotations, with the baseline in brackets."""
    figure = Figure(figsize=(3.4 * len(PLOTTED), 0.9 + 0.55 * len(scales)), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(PLOTTED)), PLOTTED, strict=True):
        values = np.array([row[name] for row in rows]).reshape(len(scales), len(rotations))
        axes.imshow(values, aspect="auto", cmap="viridis", vmin=values.min(initial=0), vmax=1)
        axes.set(title=find(name, CorrelationGrid.metrics).title, xlabel="largest rotation (degrees)")
        axes.set_xticks(range(len(rotations)), [f"{rotation:g}" for rotation in rotations])
        axes.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        for i, row in enumerate(rows):
            y, x = divmod(i, len(rotations))
            baseline = f"\n({row[f'{name}{BASELINE}']:.2f})" if f"{name}{BASELINE}" in row else ""
            color = "black" if row[name] > 0.6 else "white"
            axes.text(x, y, f"{row[name]:.2f}{baseline}", ha="center", va="center", color=color, fontsize=8)
    figure.axes[0].set_ylabel("exemplar scale (share of the view)")
    figure.suptitle("in brackets: mean-map baseline", fontsize=9)
    return figure
