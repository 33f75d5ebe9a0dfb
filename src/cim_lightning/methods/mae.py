"""Masked autoencoders: He, Chen, Xie, Li, Dollár, Girshick, CVPR 2022, arXiv 2111.06377.

Published: ViT-B/16, 1600 epochs on ImageNet-1k, 83.6 top-1 after fine-tuning, 68.0 by a linear probe.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cim_lightning.cropping.masking import MaskedImages
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.label_head import METRICS as LABEL_METRICS
from cim_lightning.models.label_head import LabelHead
from cim_lightning.models.masked_backbone import MaskedViTEncoder, pooled_tokens, visible_patches
from cim_lightning.models.masked_pixels import masked_error, patch_pixels
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(warmup=40 / 800)


class MAE(Method):
    """Predicts the pixels of masked patches from the visible patches.

    Args:
        backbone: the encoder, a ViT; its input is only the visible patches.
        decoder: builds the decoder from the backbone's width and the number of values in a patch.
        optim, batch_size: see Method.
        norm_pix_loss: normalize the target pixels of each patch by their mean and standard deviation.
        labels, labels_weight: see LabelHead. It classifies the class token of the visible patches.
    """

    batch_type = MaskedImages
    metrics = LABEL_METRICS

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int, int], nn.Module] = PixelDecoder,
        optim: Optim = OPTIM,
        norm_pix_loss: bool = True,
        batch_size: int = 256,
        labels: float | None = None,
        labels_weight: float = 1.0,
    ):
        super().__init__(backbone, optim, batch_size)
        backbone.check_skips_patches()
        self.patch_size = backbone.patch_size
        self.norm_pix_loss = norm_pix_loss
        self.encoder = MaskedViTEncoder()
        self.decoder = decoder(backbone.dim, self.patch_size**2 * backbone.in_channels)
        self.label_head = LabelHead(backbone.dim, labels, labels_weight)

    def prepare(self, batch: Any, num_classes: int | None) -> None:
        super().prepare(batch, num_classes)
        self.label_head.prepare(num_classes)

    def compute_batch_losses(self, batch: Any) -> dict[str, Tensor]:
        return self.compute_losses(*self.unpack(batch))

    def compute_losses(self, crops: MaskedImages, labels: Tensor | None = None) -> dict[str, Tensor]:
        images = self.backbone.normalize(crops.images)
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        mask, visible = visible_patches(crops.mask, crops.num_masked, grid)
        tokens = self.encoder(self.backbone, images, visible)
        predicted = self.decoder(tokens, visible, grid)
        pixels = patch_pixels(images, self.patch_size, self.norm_pix_loss)
        losses = {"loss": masked_error(predicted, pixels, mask)}
        return self.label_head.add_to(losses, pooled_tokens(self.backbone, tokens), labels)
