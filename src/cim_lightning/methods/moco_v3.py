"""MoCo v3: Chen, Xie, He, ICCV 2021, arXiv 2104.02057.

Published: ViT-B/16, 300 epochs on ImageNet-1k, 76.7 top-1 by a linear probe, 83.2 after fine-tuning.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import ContrastiveHead


class MoCoV3(Method):
    """Contrastive learning: each crop identifies the second crop of its image among all images of the batch.

    Args:
        backbone: the online encoder.
        target: builds a target from an online network, for the backbone and for the projector.
        head: builds projector, predictor and loss from the backbone's width.
        optim: see Method.
    """

    batch_type = MultiCrops

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[torch.nn.Module], Any],
        head: Callable[[int], ContrastiveHead],
        optim: Callable[..., Any],
    ):
        super().__init__(backbone, optim)
        self.head = head(backbone.dim)
        self.target = target(backbone)
        self.head_target = target(self.head.projector)

    def compute_losses(self, crops: MultiCrops) -> dict[str, Tensor]:
        views = crops.global_crops.unbind()
        with torch.no_grad():
            features = [self.target(self.backbone, view).pooled for view in views]
            keys = [self.head_target(self.head.projector, pooled) for pooled in features]
        queries = [self.backbone(view).pooled for view in views]
        return {"loss": self.head(queries[0], keys[1]) + self.head(queries[1], keys[0])}

    def target_pairs(self) -> list[tuple[Any, torch.nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head.projector)]
