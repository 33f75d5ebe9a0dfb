"""DINO: Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, ICCV 2021, arXiv 2104.14294.

Published: ViT-S/16, 800 epochs on ImageNet-1k, 74.5 top-1 by k-NN, 77.0 by a linear probe.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_above, check_share
from cim_lightning.cropping.multi_crop import MultiCrops
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.target import EmaTarget


class DINO(Method):
    """Self-distillation: each crop predicts the target's prototype probabilities of every other global crop.

    The backbone of the target is evaluated, as in the published results.

    Args:
        backbone: the online encoder.
        target: builds a target from an online network, for the backbone and for the head.
        head: builds the head, which scores prototypes, from the backbone's width.
        optim: see Method.
        temperature: softmax temperature of the online network.
        target_temperature: softmax temperature of the target, at the start and after the warm-up.
        temperature_warmup: share of training, 0..1, in which the target's temperature changes linearly.
        center_momentum: momentum, 0..1, of the running mean that is subtracted from the target's scores.
        freeze_last_layer: share of training, 0..1, in which the prototypes are frozen.
        weight_decay_end: weight decay at the end of its cosine schedule; None: constant weight decay.
    """

    batch_type = MultiCrops
    center: Tensor
    progress: Tensor

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[torch.nn.Module], Any],
        head: Callable[[int], DINOHead],
        optim: Callable[..., Any],
        temperature: float,
        target_temperature: Sequence[float],
        temperature_warmup: float,
        center_momentum: float,
        freeze_last_layer: float,
        weight_decay_end: float | None,
    ):
        super().__init__(backbone, optim)
        check_above("temperature", temperature, 0, suggest=0.1)
        if len(target_temperature) != 2 or min(target_temperature) <= 0:
            rule = "must be two numbers above 0"
            raise ConfigError("target_temperature", target_temperature, rule, suggest=[0.04, 0.07])
        check_share("temperature_warmup", temperature_warmup)
        check_share("center_momentum", center_momentum)
        check_share("freeze_last_layer", freeze_last_layer)
        self.head = head(backbone.dim)
        self.target = target(backbone)
        self.head_target = target(self.head)
        self.temperature, self.target_temperature = temperature, target_temperature
        self.temperature_warmup, self.freeze_last_layer = temperature_warmup, freeze_last_layer
        self.center_momentum, self.weight_decay_end = center_momentum, weight_decay_end
        self.register_buffer("center", torch.zeros(len(self.head.prototypes)))
        self.register_buffer("progress", torch.zeros(()))  # a buffer, to be saved in checkpoints

    @property
    def eval_backbone(self) -> Backbone:
        network: Any = self.target.network if isinstance(self.target, EmaTarget) else self.backbone
        return network

    def compute_losses(self, crops: MultiCrops) -> dict[str, Tensor]:
        global_crops = crops.global_crops.flatten(0, 1)
        with torch.no_grad():
            scores = self.head_target(self.head, self.target(self.backbone, global_crops).pooled).float()
        targets = ((scores - self.center) / self.target_temp).softmax(dim=-1)
        online = [*self.head(self.backbone(global_crops).pooled).float().chunk(2)]
        if crops.local_crops is not None:
            local = self.head(self.backbone(crops.local_crops.flatten(0, 1)).pooled).float()
            online += local.unflatten(0, crops.local_crops.shape[:2]).unbind(dim=1)
        losses = [
            -(target * F.log_softmax(crop_scores / self.temperature, dim=-1)).sum(dim=-1).mean()
            for i, target in enumerate(targets.chunk(2))
            for j, crop_scores in enumerate(online)
            if i != j
        ]
        if self.training:
            self._update_center(scores)
        mean_entropy = torch.special.entr(targets.mean(dim=0)).sum()  # 0: the same prototype for all images
        return {
            "loss": torch.stack(losses).mean(),
            "target_entropy": torch.special.entr(targets).sum(dim=-1).mean(),  # 0: one prototype per image
            "target_perplexity": mean_entropy.exp(),
        }

    @property
    def target_temp(self) -> Tensor:
        """Temperature of the target at the current step."""
        first, last = self.target_temperature
        return first + (last - first) * (self.progress / max(self.temperature_warmup, 1e-12)).clamp(max=1)

    def target_pairs(self) -> list[tuple[Any, torch.nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head)]

    def update_target(self, progress: float) -> None:
        super().update_target(progress)
        self.progress.fill_(progress)
        if self.weight_decay_end is None:
            return
        for group in self.trainer.optimizers[0].param_groups:
            if group["weight_decay"] > 0:
                start = group.setdefault("weight_decay_start", group["weight_decay"])
                done = (1 - math.cos(math.pi * progress)) / 2
                group["weight_decay"] = start + (self.weight_decay_end - start) * done

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.trainer.global_step / self.trainer.estimated_stepping_batches < self.freeze_last_layer:
            self.head.prototypes.grad = None  # AdamW skips the parameter, including its weight decay

    @torch.no_grad()
    def _update_center(self, scores: Float[Tensor, "n out"]) -> None:
        mean = scores.mean(dim=0)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.center.lerp_(mean, 1 - self.center_momentum)
