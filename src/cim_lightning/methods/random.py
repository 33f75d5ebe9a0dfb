"""Untrained backbone: the lower reference of every comparison."""

import torch
from torch import Tensor

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.methods.method import Method


class Random(Method):
    """Random initialization without training."""

    batch_type = ImageBatch
    trains = False

    def compute_losses(self, crops: ImageBatch) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=crops.images.device)}
