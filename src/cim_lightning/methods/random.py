"""An untrained backbone: the lower end of every comparison."""

import torch
from torch import Tensor

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.methods.method import Method


class Random(Method):
    """The random initialization, which takes no training step."""

    batch_type = ImageBatch
    trains = False

    def compute_losses(self, crops: ImageBatch) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=crops.images.device)}
