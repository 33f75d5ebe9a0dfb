"""An untrained backbone through the same doors: the lower end of the scale."""

import torch
from torch import Tensor

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.methods.method import Method


class Random(Method):
    """Takes no step: what comes out is the random initialization."""

    batch_type = ImageBatch

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.trainer.fit_loop.epoch_loop.max_steps = 0

    def compute_losses(self, crops: ImageBatch) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=crops.images.device)}
