"""Untrained backbone: the lower reference of every comparison."""

import torch
from torch import Tensor

from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine()  # not used


class Random(Method):
    """Random initialization without training."""

    batch_type = ImageBatch
    trains = False

    def __init__(self, backbone: Backbone, optim: Optim = OPTIM, batch_size: int = 256):
        super().__init__(backbone, optim, batch_size)

    def compute_losses(self, crops: ImageBatch) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=crops.images.device)}
