"""iBOT: Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, ICLR 2022, arXiv 2111.07832.

Published: ViT-S/16, 800 epochs on ImageNet-1k, 75.2 top-1 by k-NN, 77.9 by a linear probe.
"""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cim_lightning.checks import check_above, check_share
from cim_lightning.cropping.masked_multi_crop import MaskedMultiCrops
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.metric_registry import PLOT, PRETEXT, TABLE, Metric
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import DINOHead
from cim_lightning.models.masked_backbone import MaskTokenHook
from cim_lightning.models.prototypes import (
    PROTOTYPE_METRICS,
    cross_crop_loss,
    cross_entropy,
    prototype_metrics,
    update_center,
)
from cim_lightning.models.target import EmaTarget, Target, averaged_or_online
from cim_lightning.optim import AdamWCosine, Optim
from cim_lightning.schedule import Schedule

OPTIM = AdamWCosine(5e-4, weight_decay=0.04, weight_decay_end=0.4, betas=(0.9, 0.999), warmup=10 / 800)
TARGET = functools.partial(EmaTarget, momentum=0.996)
HEAD = functools.partial(DINOHead, out_dim=8192)
TARGET_TEMPERATURE = Schedule(0.04, 0.07, "linear", share=30 / 800)


class IBOT(Method):
    """Self-distillation of whole crops, as in DINO, and of masked patches.

    Each crop predicts the target's prototype probabilities of every other global crop, and each masked patch
    of a global crop those of the same patch, which the target sees. Both use one head. The backbone of the
    target is evaluated, as in the published results.

    Args:
        backbone: the online encoder. Without a patch embedding (ResNet, ConvNeXt), masked pixels are 0.
        target: builds a target from an online network, for the backbone and for the head.
        head: builds the head, which scores prototypes, from the backbone's width.
        optim, batch_size: see Method.
        temperature: softmax temperature of the online network.
        target_temperature: softmax temperature of the target, over training.
        center_momentum: momentum, 0..1, of the running means that are subtracted from the target's scores.
        freeze_last_layer: share of training, 0..1, in which the prototypes are frozen.
    """

    batch_type = MaskedMultiCrops
    dynamic_shapes = True
    metrics = (
        *PROTOTYPE_METRICS,
        Metric("patch_perplexity", "perplexity of the patch targets", PRETEXT, (TABLE, PLOT), digits=1),
        Metric("class_loss", "loss of the crops", PRETEXT, (PLOT,), False),
        Metric("patch_loss", "loss of the masked patches", PRETEXT, (PLOT,), False),
    )
    center: Tensor
    patch_center: Tensor
    target_temp: Tensor  # temperature of the target at the current step

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[nn.Module], Target] = TARGET,
        head: Callable[[int], DINOHead] = HEAD,
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
        self.masking = MaskTokenHook(backbone)  # after the target, which has no mask token
        self.temperature, self.target_temperature = temperature, target_temperature
        self.center_momentum, self.freeze_last_layer = center_momentum, freeze_last_layer
        # Buffers, to be saved in checkpoints.
        self.register_buffer("center", torch.zeros(len(self.head.prototypes)))
        self.register_buffer("patch_center", torch.zeros(len(self.head.prototypes)))
        self.register_buffer("target_temp", torch.tensor(target_temperature(0)))

    @property
    def eval_backbone(self) -> Backbone:
        return averaged_or_online(self.target, self.backbone)

    def compute_losses(self, crops: MaskedMultiCrops) -> dict[str, Tensor]:
        side = crops.global_crops.shape[-1] // crops.mask.shape[-1]
        if side != self.backbone.patch_size:
            rule = f"must be {self.backbone.patch_size}, the pixels of a cell of {self.backbone.name}"
            raise ConfigError("mask_patch_size", side, rule, suggest=self.backbone.patch_size)
        images = self.backbone.normalize(crops.global_crops.flatten(0, 1))
        mask = crops.mask.flatten(0, 1)
        masked = mask.flatten().int().argsort(descending=True, stable=True)[: crops.num_masked]
        with torch.no_grad():
            features = self.target(self.backbone, images)
            scores = self.head_target(self.head, features.pooled).float()
            patch_scores = self.head_target(self.head, _cells(features.grid, masked)).float()
        targets = self._probabilities(scores, self.center)
        patch_targets = self._probabilities(patch_scores, self.patch_center)
        features = self.masking(self.backbone, images, mask)
        online = [*self.head(features.pooled).chunk(2)]
        if crops.local_crops is not None:
            local_crops = self.backbone.normalize(crops.local_crops.flatten(0, 1))
            local = self.head(self.backbone(local_crops).pooled)
            online += local.unflatten(0, crops.local_crops.shape[:2]).unbind(dim=1)
        patch_scores_online = self.head(_cells(features.grid, masked))
        errors = cross_entropy(patch_targets, patch_scores_online, self.temperature)
        crop_sizes = mask.flatten(1).sum(dim=1)[masked // mask[0].numel()]  # masked patches of the same crop
        losses = {
            "class_loss": cross_crop_loss(targets, online, self.temperature),
            "patch_loss": (errors / crop_sizes).sum() / len(mask),  # 0 for a crop without a mask
        }
        if self.training:
            update_center(self.center, scores, self.center_momentum)
            update_center(self.patch_center, patch_scores, self.center_momentum)
        # NaN without a masked patch, which would make the mean over batches NaN: log the minimum.
        patch_perplexity = prototype_metrics(patch_targets)["target_perplexity"].nan_to_num(1.0)
        losses |= prototype_metrics(targets) | {"patch_perplexity": patch_perplexity}
        return {"loss": losses["class_loss"] + losses["patch_loss"], **losses}

    def _probabilities(
        self, scores: Float[Tensor, "n out"], center: Float[Tensor, "out"]
    ) -> Float[Tensor, "n out"]:
        return ((scores - center) / self.target_temp).softmax(dim=-1)

    def target_pairs(self) -> list[tuple[Target, nn.Module]]:
        return [(self.target, self.backbone), (self.head_target, self.head)]

    def update_target(self, progress: float) -> None:
        super().update_target(progress)
        self.target_temp.fill_(self.target_temperature(progress))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.trainer.global_step / self.trainer.estimated_stepping_batches < self.freeze_last_layer:
            self.head.prototypes.grad = None  # AdamW skips the parameter, including its weight decay


def _cells(grid: Float[Tensor, "b d h w"], indices: Int64[Tensor, "n"]) -> Float[Tensor, "n d"]:
    """Return the features of cells, by their indices in the flattened (b, h, w)."""
    return grid.movedim(1, -1).flatten(0, 2)[indices]
