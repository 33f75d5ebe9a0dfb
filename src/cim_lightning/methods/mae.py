"""Masked autoencoders: He, Chen, Xie, Li, Dollár, Girshick, CVPR 2022, arXiv 2111.06377.

Published: ViT-B/16, 1600 epochs on ImageNet-1k, 83.6 top-1 after fine-tuning, 68.0 by a linear probe.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cim_lightning.cropping.masked import Masked
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.models.visible import VisibleTokens, check_vit, on_patches

LEAST_VARIANCE = 1e-6  # added to a patch's, so that a flat one can be divided by it


class MAE(Method):
    """Learns by filling in most of an image from the few patches that its encoder is shown.

    Args:
        backbone: the encoder, a ViT; hidden patches never enter it.
        decoder: builds the decoder from the backbone's width and the number of a patch's values.
        optim: see Method.
        normalise_patches: predict the pixels of a patch less their mean, over their deviation.

    Raises:
        SettingError: the backbone is not a ViT.
    """

    reads = Masked

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int, int], PixelDecoder],
        optim: Callable[..., Any],
        normalise_patches: bool,
    ):
        super().__init__(backbone, optim)
        check_vit(backbone, "mae")
        self.patch = int(backbone.model.patch_embed.patch_size[0])
        self.normalise_patches = normalise_patches
        self.visible = VisibleTokens()
        self.decoder = decoder(backbone.dim, self.patch**2 * backbone.recipe["in_chans"])

    def measure(self, crops: Masked) -> dict[str, Tensor]:
        grid = (crops.images.shape[-2] // self.patch, crops.images.shape[-1] // self.patch)
        hidden = on_patches(crops.hidden, grid, "cropping.unit").flatten(1)
        cells = crops.hidden.shape[1] * crops.hidden.shape[2]
        seen = hidden.shape[1] // cells * (cells - crops.count)  # the same of every image
        visible = hidden.int().argsort(dim=1, stable=True)[:, :seen]
        tokens = self.visible(self.backbone, crops.images, visible)
        predicted = self.decoder(tokens, visible, grid).float()
        error = (predicted - self.targets(crops.images)).square().mean(dim=-1)
        return {"loss": (error * hidden).sum() / hidden.sum()}

    def targets(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n pixels"]:
        """The pixels of every patch, row by row, as they are to be predicted."""
        patches = F.pixel_unshuffle(images.float(), self.patch).flatten(2).transpose(1, 2)
        if not self.normalise_patches:
            return patches
        deviation = (patches.var(dim=-1, keepdim=True) + LEAST_VARIANCE).sqrt()
        return (patches - patches.mean(dim=-1, keepdim=True)) / deviation
