"""A backbone with a segmentation head."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Backbone


class Segmenter(nn.Module):
    """Class logits per pixel, from a copy of a backbone.

    Args:
        backbone: copied, with all parameters of the copy trainable.
        head: builds the head from the backbone and the number of classes.
        num_classes: logits per pixel.
        finetune: train the backbone too. Else it stays in evaluation mode without gradients.
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
        """Return the class logits of normalized images, upsampled bilinearly to their size."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            levels = self.head.extract(self.backbone, images)
        return F.interpolate(
            self.head(levels).float(), images.shape[-2:], mode="bilinear", align_corners=False
        )
