"""DINO: Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, ICCV 2021, arXiv 2104.14294.

Published: ViT-S/16, 800 epochs on ImageNet-1k, 74.5 top-1 by k-NN, 77.0 by a linear probe.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from cim_lightning.checks import check_above, check_share
from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.prototypes import (
    PROTOTYPE_METRICS,
    cross_crop_loss,
    prototype_metrics,
    update_center,
)
from cim_lightning.models.target import EmaTarget, Target, averaged_or_online
from cim_lightning.optim import AdamWCosine, Optim
from cim_lightning.schedule import Schedule

OPTIM = AdamWCosine(5e-4, weight_decay=0.04, weight_decay_end=0.4, betas=(0.9, 0.999), warmup=10 / 800)
TARGET = functools.partial(EmaTarget, momentum=0.996)
TARGET_TEMPERATURE = Schedule(0.04, 0.07, "linear", share=30 / 800)


class DINO(Method):
    """Self-distillation: each crop predicts the target's prototype probabilities of every other global crop.

    The backbone of the target is evaluated, as in the published results.

    Args:
        backbone: the online encoder.
        target: builds a target from an online network, for the backbone and for the head.
        head: builds the head, which scores prototypes, from the backbone's width.
        optim, batch_size: see Method.
        temperature: softmax temperature of the online network.
        target_temperature: softmax temperature of the target, over training.
        center_momentum: momentum, 0..1, of the running mean that is subtracted from the target's scores.
        freeze_last_layer: share of training, 0..1, in which the prototypes are frozen.
    """

    batch_type = MultiCrops
    metrics = PROTOTYPE_METRICS
    center: Tensor
    target_temp: Tensor  # temperature of the target at the current step

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[torch.nn.Module], Target] = TARGET,
        head: Callable[[int], DINOHead] = DINOHead,
        optim: Optim = OPTIM,
        temperature: float = 0.1,
        target_temperature: Schedule = TARGET_TEMPERATURE,
        center_momentum: float = 0.9,
        freeze_last_layer: float = 1 / 800,
        batch_size: int = 256,
    ):
        super().__init__(backbone, optim, batch_size)
        check_above("temperature", temperature, 0, suggest=0.1)
        check_above("start", target_temperature.start, 0, suggest=0.04)
        check_above("end", target_temperature.end, 0, suggest=0.07)
        check_share("center_momentum", center_momentum)
        check_share("freeze_last_layer", freeze_last_layer)
        self.head = head(backbone.dim)
        self.target = target(backbone)
        self.head_target = target(self.head)
        self.temperature, self.target_temperature = temperature, target_temperature
        self.center_momentum, self.freeze_last_layer = center_momentum, freeze_last_layer
        self.register_buffer("center", torch.zeros(len(self.head.prototypes)))
        # A buffer, to be saved in checkpoints.
        self.register_buffer("target_temp", torch.tensor(target_temperature(0)))

    @property
    def eval_backbone(self) -> Backbone:
        return averaged_or_online(self.target, self.backbone)

    def compute_losses(self, crops: MultiCrops) -> dict[str, Tensor]:
        global_crops = self.backbone.normalize(crops.global_crops).flatten(0, 1)
        with torch.no_grad():
            scores = self.head_target(self.head, self.target(self.backbone, global_crops).pooled).float()
        targets = ((scores - self.center) / self.target_temp).softmax(dim=-1)
        online = [*self.head(self.backbone(global_crops).pooled).float().chunk(2)]
        if crops.local_crops is not None:
            local_crops = self.backbone.normalize(crops.local_crops).flatten(0, 1)
            local = self.head(self.backbone(local_crops).pooled).float()
            online += local.unflatten(0, crops.local_crops.shape[:2]).unbind(dim=1)
        if self.training:
            update_center(self.center, scores, self.center_momentum)
        loss = cross_crop_loss(targets, online, self.temperature)
        return {"loss": loss, **prototype_metrics(targets)}

    def target_pairs(self) -> list[tuple[Target, torch.nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head)]

    def update_target(self, progress: float) -> None:
        super().update_target(progress)
        self.target_temp.fill_(self.target_temperature(progress))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.trainer.global_step / self.trainer.estimated_stepping_batches < self.freeze_last_layer:
            self.head.prototypes.grad = None  # AdamW skips the parameter, including its weight decay
