"""Masked autoencoders: He, Chen, Xie, Li, Dollár, Girshick, CVPR 2022, arXiv 2111.06377.

Published: ViT-B/16, 1600 epochs on ImageNet-1k, 83.6 top-1 after fine-tuning, 68.0 by a linear probe.
"""

from collections.abc import Callable

from torch import Tensor, nn

from cim_lightning.cropping.masking import MaskedImages
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_backbone import MaskedViTEncoder, visible_patches
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
        mask, visible = visible_patches(crops.mask, crops.num_masked, grid)
        tokens = self.encoder(self.backbone, images, visible)
        predicted = self.decoder(tokens, visible, grid)
        pixels = patch_pixels(images, self.patch_size, self.norm_pix_loss)
        return {"loss": masked_error(predicted, pixels, mask)}
