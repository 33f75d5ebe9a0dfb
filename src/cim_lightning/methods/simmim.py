"""SimMIM: Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, CVPR 2022, arXiv 2111.09886.

Published: ViT-B/16, 800 epochs on ImageNet-1k, 83.8 top-1 after fine-tuning; Swin-B, 800 epochs, 84.0.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cim_lightning.cropping.masking import MaskedImages
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.masked_backbone import MaskTokenHook, upsample_mask


class SimMIM(Method):
    """Predicts masked pixels with one linear layer on the backbone's feature map.

    Args:
        backbone: any architecture. With a patch embedding, masked patches become a learned token; without
            (ResNet, ConvNeXt), masked pixels are 0.
        optim: see Method.
    """

    batch_type = MaskedImages

    def __init__(self, backbone: Backbone, optim: Callable[..., Any]):
        super().__init__(backbone, optim)
        self.masking = MaskTokenHook(backbone)
        self.stride = int(backbone.model.feature_info[-1]["reduction"])
        self.head = nn.Conv2d(backbone.dim, self.stride**2 * backbone.timm_kwargs["in_chans"], kernel_size=1)

    def compute_losses(self, crops: MaskedImages) -> dict[str, Tensor]:
        features = self.masking(self.backbone, crops.images, crops.mask)
        predicted = F.pixel_shuffle(self.head(features.grid), self.stride).float()
        size = (crops.images.shape[-2], crops.images.shape[-1])
        mask = upsample_mask(crops.mask, size)[:, None].expand_as(crops.images)
        error = (predicted - crops.images.float()).abs()
        loss = (error * mask).sum() / mask.sum()
        # DDP requires a gradient of every parameter, including those of the pooling.
        return {"loss": loss + 0 * features.pooled.sum()}
