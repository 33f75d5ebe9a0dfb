"""Training on a few images, as a test of a method and its settings."""

from typing import Any

import lightning as L
from torch.utils.data import Subset

from cim_lightning.checks import check_at_least
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError


class OverfitBatches(L.Callback):
    """Train and validate on a few images, evenly spaced in the training set.

    Crops and colors stay random, so the loss falls but need not reach 0.

    Args:
        num_batches: batches per epoch, 1 or more.
    """

    def __init__(self, num_batches: int):
        check_at_least("num_batches", num_batches, 1)
        self.num_batches = num_batches

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "splits"):
            raise ConfigError("OverfitBatches needs an ImageData as the data module of the trainer")
        source, limit = data.splits.train, self.num_batches * data.batch_size * trainer.world_size
        indices = range(0, len(source), max(len(source) // limit, 1))[:limit]  # folders are sorted by class
        images: Any = Subset(source, indices)
        data.splits = Splits(train=images, val=images)
