"""SimMIM: Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, CVPR 2022, arXiv 2111.09886.

Published: ViT-B/16, 800 epochs on ImageNet-1k, 83.8 top-1 after fine-tuning; Swin-B, 800 epochs, 84.0.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cim_lightning.cropping.masking import MaskedImages
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_backbone import MaskTokenHook, upsample_mask
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(5e-5, betas=(0.9, 0.999), warmup=10 / 800)


class SimMIM(Method):
    """Predicts masked pixels with one linear layer on the backbone's feature map.

    Args:
        backbone: any architecture. With a patch embedding, masked patches become a learned token; without
            (ResNet, ConvNeXt), masked pixels are 0.
        optim, batch_size: see Method.
    """

    batch_type = MaskedImages

    def __init__(self, backbone: Backbone, optim: Optim = OPTIM, batch_size: int = 256):
        super().__init__(backbone, optim, batch_size)
        self.masking = MaskTokenHook(backbone)
        self.stride = backbone.patch_size
        self.head = nn.Conv2d(backbone.dim, self.stride**2 * backbone.in_channels, kernel_size=1)

    def compute_losses(self, crops: MaskedImages) -> dict[str, Tensor]:
        images = self.backbone.normalize(crops.images)
        features = self.masking(self.backbone, images, crops.mask)
        predicted = F.pixel_shuffle(self.head(features.grid), self.stride).float()
        size = (images.shape[-2], images.shape[-1])
        mask = upsample_mask(crops.mask, size)[:, None].expand_as(images)
        error = (predicted - images.float()).abs()
        loss = (error * mask).sum() / mask.sum()
        # DDP requires a gradient of every parameter, including those of the pooling.
        return {"loss": loss + 0 * features.pooled.sum()}
