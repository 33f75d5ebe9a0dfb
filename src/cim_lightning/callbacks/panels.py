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

from cim_lightning.cropping.exemplars import Crops
from cim_lightning.errors import ConfigError

COLORS = ["#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#46f0f0", "#f032e6", "#bcf60c"]
INCH = 1.1  # side of a tile
MOST_EXEMPLARS = 6
TITLE = 4  # exemplars that what stands above them is as wide as


class CorrelationPanels(L.Callback):
    """Draws the first validation images as `panels/step-00001234.png`, and shows them to loggers that can.

    Args:
        folder: where to write them.
        num_images: images a panel.
        every_n_epochs: how often; the validation before training and the last one always.
    """

    def __init__(self, folder: str, num_images: int, every_n_epochs: int):
        for name, value in {"num_images": num_images, "every_n_epochs": every_n_epochs}.items():
            if value < 1:
                raise ConfigError(f"callbacks.panels.{name}={value}: at least 1; try 1, or ~callbacks.panels")
        self.folder = Path(folder)
        self.num_images, self.every_n_epochs = num_images, every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        last = (
            trainer.global_step >= trainer.estimated_stepping_batches if trainer.state.fn == "fit" else True
        )
        due = last or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if batch_idx or not due or not trainer.is_global_zero or not isinstance(batch[0], Crops):
            return
        crops: Crops = batch[0]
        few = Crops(*(part[: self.num_images] for part in crops))  # pyright: ignore
        with torch.no_grad():
            probability = pl_module(few).float().sigmoid()
        figure = draw(few, probability, trainer.datamodule.cropping.normalize)  # pyright: ignore
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{trainer.global_step:08d}.png"
        figure.savefig(path, dpi=100)
        step = max(trainer.global_step - 1, 0)  # by which Lightning logs this validation's numbers
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("panels", [str(path)], step=step)
            elif hasattr(logger.experiment, "add_image"):
                picture = matplotlib.image.imread(path)[..., :3]
                logger.experiment.add_image("panels", picture, step, dataformats="HWC")


def draw(crops: Crops, probability: Tensor, normalize: Any) -> Figure:
    """A block of three rows an image: exemplars, true maps, predicted maps; its context at the left.

    Args:
        crops: of b views, normalized.
        probability: predicted maps "b k s s", 0..1.
        normalize: what the crops were normalized with, undone here.
    """
    b, k = crops.boxes.angle.shape
    k = min(k, MOST_EXEMPLARS)
    width, height = max(k, TITLE) + 3.2, b * 3.15 + 0.3
    figure = Figure(figsize=(width * INCH, height * INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))  # one for all tiles: axes are what takes time to draw
    axes.axis("off")

    def tile(x: float, y: float, side: float, picture: np.ndarray, color: str = "#888888") -> None:
        side = side * 0.97
        axes.imshow(picture, interpolation="nearest", extent=(x, x + side, y + side, y), zorder=1)
        edge = 0.5 if color == "#888888" else 2
        axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=edge, zorder=3))

    heat = matplotlib.colormaps["magma"]
    for i in range(b):
        top = 0.3 + i * 3.15
        context = _pixels(crops.context[i], normalize)
        tile(0.05, top, 3.05, context)
        scale = 3.05 * 0.97 / np.array([crops.boxes.view[1], crops.boxes.view[0]])
        for j in range(k):
            color = COLORS[j % len(COLORS)]
            corners = crops.boxes.corners[i, j].cpu().numpy() * scale + (0.05, top)
            axes.add_patch(Polygon(corners, fill=False, edgecolor=color, linewidth=1.5, zorder=2))
            x = 3.2 + j
            tile(x, top, 1, _pixels(crops.exemplars[i, j], normalize), color)
            tile(x, top + 1.02, 1, _over(context, crops.maps[i, j].float().cpu().numpy(), heat))
            tile(x, top + 2.04, 1, _over(context, probability[i, j].cpu().numpy(), heat))
    axes.set(xlim=(0, width), ylim=(height, 0))  # pictures have moved them
    axes.text(0.05, 0.2, "context", fontsize=8)
    axes.text(3.2, 0.2, "exemplars; where they are; where the decoder says they are", fontsize=8)
    return figure


def _pixels(image: Tensor, normalize: Any) -> np.ndarray:
    """Undoes a normalization, which maps each channel by a line, and shows one or three channels."""
    ends = torch.stack((torch.zeros_like(image), torch.ones_like(image)))
    low, high = normalize(ends)
    shown = ((image - low) / (high - low)).clamp(0, 1).cpu()
    shown = shown[:3] if len(shown) >= 3 else shown[:1].expand(3, -1, -1)
    return shown.permute(1, 2, 0).numpy()


def _over(context: np.ndarray, share: np.ndarray, heat: Any) -> np.ndarray:
    """A map 0..1 as heat over a gray context."""
    gray = context.mean(axis=2, keepdims=True)
    return 0.35 * gray + 0.65 * heat(share)[..., :3]
