"""MoCo v3: Chen, Xie, He, ICCV 2021, arXiv 2104.02057.

Published: ViT-B/16, 300 epochs on ImageNet-1k, 76.7 top-1 by a linear probe, 83.2 after fine-tuning.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import ContrastiveHead
from cim_lightning.models.target import EmaTarget, Target
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(weight_decay=0.1, betas=(0.9, 0.999))


class MoCoV3(Method):
    """Contrastive learning: each crop identifies the second crop of its image among all images of the batch.

    Args:
        backbone: the online encoder.
        target: builds a target from an online network, for the backbone and for the projector.
        head: builds projector, predictor and loss from the backbone's width.
        optim, batch_size: see Method.
    """

    batch_type = MultiCrops

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[torch.nn.Module], Target] = EmaTarget,
        head: Callable[[int], ContrastiveHead] = ContrastiveHead,
        optim: Optim = OPTIM,
        batch_size: int = 256,
    ):
        super().__init__(backbone, optim, batch_size)
        self.head = head(backbone.dim)
        self.target = target(backbone)
        self.head_target = target(self.head.projector)

    def compute_losses(self, crops: MultiCrops) -> dict[str, Tensor]:
        views = self.backbone.normalize(crops.global_crops).unbind()
        with torch.no_grad():
            features = [self.target(self.backbone, view).pooled for view in views]
            keys = [self.head_target(self.head.projector, pooled) for pooled in features]
        queries = [self.backbone(view).pooled for view in views]
        return {"loss": self.head(queries[0], keys[1]) + self.head(queries[1], keys[0])}

    def target_pairs(self) -> list[tuple[Target, torch.nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head.projector)]
