"""Correlation panels: context, exemplars, true and predicted maps side by side."""

from pathlib import Path
from typing import Any

import lightning as L
import matplotlib
import matplotlib.image
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from cim_lightning.callbacks.validation_schedule import is_due
from cim_lightning.checks import check_at_least
from cim_lightning.cropping.boxes import Boxes
from cim_lightning.cropping.exemplars import Crops
from cim_lightning.cropping.views import rgb_preview
from cim_lightning.loggers.protocols import LogsImages

COLORS = ["#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#46f0f0", "#f032e6", "#bcf60c"]
GRAY = "#888888"
INCH = 1.1  # side of an exemplar
MAX_EXEMPLARS = 6
TITLE_WIDTH = 3  # in exemplars
CONTEXT = 3.05  # side of the context, in exemplars
DARK = 0.5  # an image whose brightest value is below is brightened
GAP = 0.3  # between the exemplars of an image and those of other images, in exemplars
FILLED = 0.97  # share of a tile's side that its image fills


class CorrelationPanels(L.Callback):
    """Draw the first validation images as `panels/step-00001234.png`, and send them to loggers with images.

    Args:
        folder: folder of the pictures.
        num_images: validation images per picture.
        every_n_epochs: epochs between two pictures; see is_due.
    """

    def __init__(self, folder: str, num_images: int, every_n_epochs: int):
        check_at_least("num_images", num_images, 1)
        check_at_least("every_n_epochs", every_n_epochs, 1)
        self.folder = Path(folder)
        self.num_images, self.every_n_epochs = num_images, every_n_epochs

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        batch = batch if hasattr(batch, "num_images") else batch[0]  # with or without labels
        crops = getattr(batch, "crops", batch)
        if batch_idx or not trainer.is_global_zero or not isinstance(crops, Crops):
            return
        if not is_due(trainer, self.every_n_epochs) or not getattr(pl_module, "predicts_maps", True):
            return
        batch = _first(batch, self.num_images)
        with torch.no_grad():
            predicted, foreign = (pl_module(b).float().sigmoid() for b in (batch, swap_exemplars(batch)))
        figure = draw(getattr(batch, "crops", batch), predicted, foreign[:, 0])
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{trainer.global_step:08d}.png"
        figure.savefig(path, dpi=100)
        step = max(trainer.global_step - 1, 0)  # as Lightning logs this validation
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            if isinstance(logger, LogsImages):
                logger.log_image("panels", [str(path)], step=step)
            elif hasattr(getattr(logger, "experiment", None), "add_image"):  # TensorBoard
                image = matplotlib.image.imread(path)[..., :3]
                logger.experiment.add_image("panels", image, step, dataformats="HWC")


def swap_exemplars(batch: Any) -> Any:
    """Return crops, or a batch that has `crops`, in which each image has the exemplars of the next one."""
    if isinstance(batch, Crops):
        return batch._replace(exemplars=batch.exemplars.roll(-1, 0))
    return batch._replace(crops=swap_exemplars(batch.crops))


def draw(crops: Crops, predicted: Tensor, foreign: Tensor) -> Figure:
    """Draw the context of each image, and rows with its exemplars, true maps and predicted maps.

    The last column of several images is the first exemplar of the next image, whose true map is empty.

    Args:
        crops: of b views.
        predicted: maps "b k s s", 0..1.
        foreign: maps "b s s" predicted for the first exemplar of the next image, 0..1.
    """
    b, k = crops.boxes.angle.shape
    k = min(k, MAX_EXEMPLARS)
    last = 3.2 + max(k, TITLE_WIDTH) + GAP  # left edge of the foreign exemplar
    width, height = last + (1 if b > 1 else 0), b * 3.15 + 0.3
    figure = Figure(figsize=(width * INCH, height * INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))  # one for all tiles: axes are slow to draw
    axes.axis("off")

    def tile(x: float, y: float, side: float, image: np.ndarray, color: str = GRAY) -> None:
        side, width = side * FILLED, 0.5 if color == GRAY else 2
        axes.imshow(image, interpolation="nearest", extent=(x, x + side, y + side, y), zorder=1)
        axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=width, zorder=3))

    gains = [_gain(context) for context in crops.context]
    for i in range(b):
        top = 0.3 + i * 3.15
        context = _pixels(crops.context[i] * gains[i])
        tile(0.05, top, CONTEXT, context)
        scale = CONTEXT * FILLED / np.array([crops.boxes.view[1], crops.boxes.view[0]])
        for j in range(k):
            color = COLORS[j % len(COLORS)]
            corners = crops.boxes.corners[i, j].cpu().numpy() * scale + (0.05, top)
            axes.add_patch(Polygon(corners, fill=False, edgecolor=color, linewidth=1.5, zorder=2))
            tile(3.2 + j, top, 1, _pixels(crops.exemplars[i, j] * gains[i]), color)
            tile(3.2 + j, top + 1.02, 1, _overlay(context, crops.maps[i, j].float()))
            tile(3.2 + j, top + 2.04, 1, _overlay(context, predicted[i, j]))
        if b > 1:
            following = (i + 1) % b
            tile(last, top, 1, _pixels(crops.exemplars[following, 0] * gains[following]))
            tile(last, top + 1.02, 1, _overlay(context, torch.zeros_like(foreign[i])))
            tile(last, top + 2.04, 1, _overlay(context, foreign[i]))
    axes.set(xlim=(0, width), ylim=(height, 0))  # imshow has moved them
    axes.text(0.05, 0.2, "context", fontsize=8)
    axes.text(3.2, 0.2, "exemplars; correlation maps; predicted maps", fontsize=8)
    if b > 1:
        axes.text(last, 0.2, "foreign", fontsize=8)
    return figure


def _first(batch: Any, n: int) -> Any:
    """Return the first n images of a batch: of its tensors and boxes, also in nested tuples."""
    if isinstance(batch, tuple):
        return type(batch)(*(_first(part, n) for part in batch))
    return batch[:n] if isinstance(batch, Tensor | Boxes) else batch


def _gain(context: Tensor) -> float:
    """Return the factor that makes a dark image visible, such as one of 16 bits; 1 for others."""
    brightest = float(rgb_preview(context).max())
    return 1 / brightest if 0 < brightest < DARK else 1.0


def _pixels(image: Tensor) -> np.ndarray:
    return rgb_preview(image).permute(1, 2, 0).cpu().numpy()


def _overlay(context: np.ndarray, heat: Tensor) -> np.ndarray:
    """Blend a map, 0..1, as colors over the gray context."""
    gray = context.mean(axis=2, keepdims=True)
    return 0.35 * gray + 0.65 * matplotlib.colormaps["magma"](heat.cpu().numpy())[..., :3]
