"""The pretext task itself on held-out images, against the scale and the rotation of the exemplars."""

import copy
import csv
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torchmetrics.functional.classification import binary_auroc
from tqdm import tqdm

from cim_lightning.cropping.boxes import BoxSampler
from cim_lightning.cropping.metrics import estimate_mean_map_baseline, iou_and_pointing
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext

MEASURES = {
    "skill": "correlation skill",
    "iou": "IoU at 0.5",
    "pointing": "pointing accuracy",
    "auc": "area under ROC",
}
THRESHOLDS = 200  # of the ROC curve, so that its memory does not grow with the images


class CorrelationGrid:
    """Skill, IoU, pointing accuracy and area under the ROC curve, each beside the constant map's.

    First under the cropping of pre-training, then for each scale with each rotation in its place. The
    constant map is estimated anew for every one of them; skill is 0 for it by definition.

    Args:
        scales: shares of the view's area before turning, one at a time.
        rotations: largest angles in degrees, one at a time.
        num_images: validation images to look at.
    """

    def __init__(self, scales: list[float], rotations: list[float], num_images: int):
        if num_images < 1:
            raise ConfigError(f"evaluation.correlation.num_images={num_images}: at least 1; try 1")
        self.scales, self.rotations, self.num_images = scales, rotations, num_images

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """The measures by name; those of each cell go into `correlation.csv` and `correlation.png`."""
        if not hasattr(context.method, "decoder"):
            raise ConfigError(
                "evaluation=correlation: there is no correlation decoder without a checkpoint of CIM; "
                "try checkpoint=<its run's folder>, or ~evaluation.correlation"
            )
        cropping = context.data.cropping
        numbers = self.measure(context, cropping)
        cells = {(scale, rotation): {} for scale in self.scales for rotation in self.rotations}
        for (scale, rotation), cell in tqdm(cells.items(), desc="correlation", leave=False, disable=None):
            fixed = copy.copy(cropping)
            fixed.boxes = BoxSampler([scale, scale], cropping.boxes.ratio, rotation)
            cell |= {"scale": scale, "rotation": rotation} | self.measure(context, fixed)
        with (context.folder / "correlation.csv").open("w", newline="") as file:
            rows = csv.DictWriter(file, next(iter(cells.values()), {}))
            rows.writeheader()
            rows.writerows(cells.values())
        draw(cells, self.scales, self.rotations).savefig(context.folder / "correlation.png", dpi=110)
        return numbers

    @torch.no_grad()
    def measure(self, context: EvalContext, cropping: Any) -> dict[str, float]:
        """Under one cropping: each measure of the method, and as "<measure>_constant" of the constant map."""
        method = context.method.to(context.device).eval()
        constant = estimate_mean_map_baseline(cropping)
        logits, maps = [], []
        for batch in context.data.center_crop_dataloader("val", self.num_images):
            crops = cropping(batch.views.to(context.device), batch.seed)
            logits.append(method(crops).float().cpu())
            maps.append(crops.maps.cpu())
        said, true = torch.cat(logits), torch.cat(maps)
        loss = F.binary_cross_entropy_with_logits(said, true.float())
        mean = true.float().mean(dim=(0, 1)).expand_as(said)
        numbers = {"skill": constant.skill(loss)} | iou_and_pointing(said, true)
        numbers |= {"auc": _area(said.sigmoid(), true), "auc_constant": _area(mean, true)}
        found = {name: float(value) for name, value in numbers.items()}
        return found | {"iou_constant": constant.iou, "pointing_constant": constant.pointing}


def draw(cells: dict[Any, dict[str, float]], scales: list[float], rotations: list[float]) -> Figure:
    """A heat map a measure: scales down, rotations across; in each cell its value and the constant map's."""
    figure = Figure(figsize=(3.4 * len(MEASURES), 0.9 + 0.55 * len(scales)), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        values = [[cells[scale, rotation][name] for rotation in rotations] for scale in scales]
        axes.imshow(values, aspect="auto", cmap="viridis", vmin=min(0, *map(min, values)), vmax=1)
        axes.set(title=title, xlabel="largest rotation (degrees)")
        axes.set_xticks(range(len(rotations)), [f"{rotation:g}" for rotation in rotations])
        axes.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        for (scale, rotation), cell in cells.items():
            constant = f"\n({cell[f'{name}_constant']:.2f})" if f"{name}_constant" in cell else ""
            place = rotations.index(rotation), scales.index(scale)
            color = "black" if cell[name] > 0.6 else "white"
            axes.text(
                *place, f"{cell[name]:.2f}{constant}", ha="center", va="center", color=color, fontsize=8
            )
    figure.axes[0].set_ylabel("exemplar scale (share of the view)")
    figure.suptitle("in brackets: the constant map", fontsize=9)
    return figure


def _area(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return binary_auroc(scores.flatten(), truth.flatten().int(), thresholds=THRESHOLDS)
