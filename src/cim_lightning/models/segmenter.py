"""A backbone with a head for dense prediction."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Backbone


class Segmenter(nn.Module):
    """Images to class logits a pixel, on a copy of a backbone.

    Args:
        backbone: copied, all of the copy trainable: what was frozen in pre-training is not in fine-tuning.
        head: makes the head, from the backbone and the number of classes.
        num_classes: logits a pixel.
        finetune: whether the backbone learns too; else it stays in evaluation mode, without gradients.
    """

    def __init__(self, backbone: Backbone, head: Callable[..., nn.Module], num_classes: int, finetune: bool):
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(finetune)
        self.head: Any = head(self.backbone, num_classes)
        self.finetune = finetune

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        self.backbone.train(mode and self.finetune)
        return self

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n h w"]:
        """Class logits of normalized images, brought to their size bilinearly."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            levels = self.head.read(self.backbone, images)
        return F.interpolate(
            self.head(levels).float(), images.shape[-2:], mode="bilinear", align_corners=False
        )
