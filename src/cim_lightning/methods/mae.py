"""Masked autoencoders: He, Chen, Xie, Li, Dollár, Girshick, CVPR 2022, arXiv 2111.06377.

Published: ViT-B/16, 1600 epochs on ImageNet-1k, 83.6 top-1 after fine-tuning, 68.0 by a linear probe.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.cropping.masking import MaskedImages
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_backbone import MaskedViTEncoder, upsample_mask
from cim_lightning.models.pixel_decoder import PixelDecoder
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(warmup=40 / 800)
EPSILON = 1e-6  # added to the variance of a patch, which can be 0


class MAE(Method):
    """Predicts the pixels of masked patches from the visible patches.

    Args:
        backbone: the encoder, a ViT; its input is only the visible patches.
        decoder: builds the decoder from the backbone's width and the number of values in a patch.
        optim, batch_size: see Method.
        norm_pix_loss: normalize the target pixels of each patch by their mean and standard deviation.
    """

    batch_type = MaskedImages

    def __init__(
        self,
        backbone: Backbone,
        decoder: Callable[[int, int], nn.Module] = PixelDecoder,
        optim: Optim = OPTIM,
        norm_pix_loss: bool = True,
        batch_size: int = 256,
    ):
        super().__init__(backbone, optim, batch_size)
        backbone.check_skips_patches()
        self.patch_size = backbone.patch_size
        self.norm_pix_loss = norm_pix_loss
        self.encoder = MaskedViTEncoder()
        self.decoder = decoder(backbone.dim, self.patch_size**2 * backbone.in_channels)

    def compute_losses(self, crops: MaskedImages) -> dict[str, Tensor]:
        images = self.backbone.normalize(crops.images)
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        mask = upsample_mask(crops.mask, grid).flatten(1)
        cells = crops.mask[0].numel()
        num_visible = mask.shape[1] // cells * (cells - crops.num_masked)  # equal for all images
        visible = mask.int().argsort(dim=1, stable=True)[:, :num_visible]
        tokens = self.encoder(self.backbone, images, visible)
        predicted = self.decoder(tokens, visible, grid).float()
        error = (predicted - self.targets(images)).square().mean(dim=-1)
        return {"loss": (error * mask).sum() / mask.sum()}

    def targets(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n pixels"]:
        """Return the pixels of normalized images to predict, for patches in row-major order of the grid."""
        patches = F.pixel_unshuffle(images.float(), self.patch_size).flatten(2).transpose(1, 2)
        if not self.norm_pix_loss:
            return patches
        deviation = (patches.var(dim=-1, keepdim=True) + EPSILON).sqrt()
        return (patches - patches.mean(dim=-1, keepdim=True)) / deviation
