"""Correlational Image Modeling: Li, Xie, Loy, CVPR 2023, arXiv 2303.12670.

Published: ViT-B/16, 300 epochs on ImageNet-1k, 83.1 top-1 after fine-tuning.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.exemplars import Crops
from cim_lightning.cropping.metrics import MeanMapBaseline, iou_and_pointing
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.contrastive_head import ContrastiveHead

YARDSTICKS = ("iou", "best_iou", "pointing")  # of the constant map, shown beside what they measure


class CIM(Method):
    """Learns by predicting where exemplars came from in their context.

    Args:
        backbone: the online encoder.
        decoder: builds the correlation decoder from the backbone's width.
        target: builds the other encoder around the online one (see models/target.py).
        optim: see Method.
        constant: the constant map under the same cropping, to which skill refers.
        online_input: "exemplars" (exemplar -> context, the paper's choice) or "context", the other bootstrap
            direction: the target reads what the online encoder does not.
        reduction: over an image's exemplars, "sum" (the paper's) or "mean"; pixels and images are averaged.
        contrast: builds the global contrastive head from the backbone's width; None trains without it.
    """

    batch_type = Crops

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int], torch.nn.Module],
        target: Callable[[torch.nn.Module], Any],
        optim: Callable[..., Any],
        constant: MeanMapBaseline,
        online_input: str,
        reduction: str,
        contrast: Callable[[int], ContrastiveHead] | None,
    ):
        super().__init__(backbone, optim)
        self.constant = constant
        self.online_input = _one_of("method.online_input", online_input, ("exemplars", "context"))
        self.reduction = _one_of("method.reduction", reduction, ("sum", "mean"))
        self.decoder = decoder(backbone.dim)
        self.target = target(backbone)
        self.contrast = None if contrast is None else contrast(backbone.dim)
        self.contrast_target = None if self.contrast is None else target(self.contrast.projector)

    def forward(self, crops: Crops) -> Float[Tensor, "b k s s"]:
        """Correlation logits: above 0 where the exemplar is taken to lie."""
        return self._decode(crops, *self._encode(crops))

    def compute_losses(self, crops: Crops) -> dict[str, Tensor]:
        online, target = self._encode(crops)
        logits = self._decode(crops, online, target).float()
        correlation = F.binary_cross_entropy_with_logits(logits, crops.maps.float())
        loss = correlation * (logits.shape[1] if self.reduction == "sum" else 1)
        metrics = {"skill": self.constant.skill(correlation)} | iou_and_pointing(logits, crops.maps)
        metrics |= {
            f"{name}_constant": logits.new_full((), getattr(self.constant, name)) for name in YARDSTICKS
        }
        if self.contrast is not None and self.contrast_target is not None:
            keys = self.contrast_target(self.contrast.projector, target.pooled)
            metrics["contrast"] = self.contrast(online.pooled, keys)
            loss = loss + metrics["contrast"]
        # Several devices wait for a gradient of every parameter, and not all decoders read what is pooled.
        return {"loss": loss + 0 * (online.pooled.sum() + target.pooled.sum())} | metrics

    def target_pairs(self) -> list[tuple[Any, torch.nn.Module]]:
        pairs = [(self.target, self.backbone)]
        if self.contrast is not None:
            pairs.append((self.contrast_target, self.contrast.projector))
        return pairs

    def _encode(self, crops: Crops) -> tuple[Any, Any]:
        exemplars = crops.exemplars.flatten(0, 1)  # one batch of b k exemplars, image by image
        reads, shown = (
            (exemplars, crops.context) if self.online_input == "exemplars" else (crops.context, exemplars)
        )
        return self.backbone(reads), self.target(self.backbone, shown)

    def _decode(self, crops: Crops, online: Any, target: Any) -> Float[Tensor, "b k s s"]:
        exemplars, context = (online, target) if self.online_input == "exemplars" else (target, online)
        return self.decoder(context, exemplars, crops.maps.shape[-2:])


def _one_of(setting: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{setting}={value}: one of {', '.join(choices)}; try {choices[0]}")
    return value
