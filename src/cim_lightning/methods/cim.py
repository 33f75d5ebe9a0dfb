"""Correlational Image Modeling: Li, Xie, Loy, CVPR 2023, arXiv 2303.12670.

Published: ViT-B/16, 300 epochs on ImageNet-1k, 83.1 top-1 after fine-tuning.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.checks import check_one_of
from cim_lightning.cropping.correlation_metrics import MeanMapBaseline, iou_and_pointing
from cim_lightning.cropping.exemplars import Crops
from cim_lightning.methods.method import Method
from cim_lightning.metric_registry import BASELINE
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.heads import ContrastiveHead


class CIM(Method):
    """Predicts for each exemplar the region of its context from which it was cropped.

    Args:
        backbone: the online encoder.
        decoder: builds the correlation decoder from the backbone's width.
        target: builds the target from an online network (see models/target.py).
        optim: see Method.
        baseline: mean-map baseline of the same cropping; its skill is 0.
        online_input: "exemplars" (as in the paper) or "context"; the target encoder has the other as input.
        reduction: "sum" (as in the paper) or "mean" over the exemplars of an image.
        contrast: builds the global contrastive head from the backbone's width; None: no contrastive loss.
    """

    batch_type = Crops

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int], torch.nn.Module],
        target: Callable[[torch.nn.Module], Any],
        optim: Callable[..., Any],
        baseline: MeanMapBaseline,
        online_input: str,
        reduction: str,
        contrast: Callable[[int], ContrastiveHead] | None = None,
    ):
        super().__init__(backbone, optim)
        check_one_of("online_input", online_input, ("exemplars", "context"))
        check_one_of("reduction", reduction, ("sum", "mean"))
        self.baseline, self.online_input, self.reduction = baseline, online_input, reduction
        self.decoder = decoder(backbone.dim)
        self.target = target(backbone)
        self.contrast = None if contrast is None else contrast(backbone.dim)
        self.contrast_target: Any = None if self.contrast is None else target(self.contrast.projector)

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        for crops, parameter in ((batch.exemplars, "exemplar_size"), (batch.context, "context_size")):
            self.backbone.check_size((crops.shape[-2], crops.shape[-1]), parameter)

    def forward(self, crops: Crops) -> Float[Tensor, "b k s s"]:
        """Return correlation logits, above 0 inside the predicted box of the exemplar."""
        return self._decode(crops, *self._encode(crops))

    def compute_losses(self, crops: Crops) -> dict[str, Tensor]:
        online, target = self._encode(crops)
        logits = self._decode(crops, online, target).float()
        correlation = F.binary_cross_entropy_with_logits(logits, crops.maps.float())
        loss = correlation * (logits.shape[1] if self.reduction == "sum" else 1)
        metrics = {"skill": self.baseline.skill(correlation)} | iou_and_pointing(logits, crops.maps)
        for name in ("iou", "best_iou", "pointing"):
            metrics[name + BASELINE] = logits.new_full((), getattr(self.baseline, name))
        if self.contrast is not None:
            keys = self.contrast_target(self.contrast.projector, target.pooled)
            metrics["contrast"] = self.contrast(online.pooled, keys)
            loss = loss + metrics["contrast"]
        # DDP requires a gradient of every parameter, but some decoders do not use the pooled features.
        return {"loss": loss + 0 * (online.pooled.sum() + target.pooled.sum())} | metrics

    def target_pairs(self) -> list[tuple[Any, torch.nn.Module]]:
        pairs: list[tuple[Any, torch.nn.Module]] = [(self.target, self.backbone)]
        return pairs if self.contrast is None else [*pairs, (self.contrast_target, self.contrast.projector)]

    def _encode(self, crops: Crops) -> tuple[Any, Any]:
        inputs = (crops.exemplars.flatten(0, 1), crops.context)  # all b k exemplars in one batch
        online, target = inputs if self.online_input == "exemplars" else reversed(inputs)
        return self.backbone(online), self.target(self.backbone, target)

    def _decode(self, crops: Crops, online: Any, target: Any) -> Float[Tensor, "b k s s"]:
        exemplars, context = (online, target) if self.online_input == "exemplars" else (target, online)
        return self.decoder(context, exemplars, crops.maps.shape[-2:])
