"""I-JEPA: Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, CVPR 2023, arXiv 2301.08243.

Published: ViT-B/16, 600 epochs on ImageNet-1k, 72.9 top-1 by a linear probe; ViT-H/14, 300 epochs, 79.3.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cim_lightning.cropping.multi_block import BlockMaskedImages
from cim_lightning.errors import ConfigError
from cim_lightning.methods.method import Method
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.block_predictor import BlockPredictor
from cim_lightning.models.masked_backbone import MaskedViTEncoder
from cim_lightning.models.target import EmaTarget, Target, averaged_or_online
from cim_lightning.optim import AdamWCosine, Optim

OPTIM = AdamWCosine(1.25e-4, weight_decay=0.04, weight_decay_end=0.4, betas=(0.9, 0.999), warmup=15 / 600)
TARGET = functools.partial(EmaTarget, momentum=0.996)


class IJEPA(Method):
    """Predicts the target encoder's features of several blocks of patches from the patches of one context.

    The target encodes the whole image. Its backbone is evaluated, as in the published results.

    Args:
        backbone: the context encoder, a ViT; its input is only the context patches.
        target: builds the target encoder from the backbone.
        predictor: builds the predictor from the backbone's width.
        optim, batch_size: see Method.
    """

    batch_type = BlockMaskedImages
    dynamic_shapes = True

    def __init__(
        self,
        backbone: Backbone,
        target: Callable[[nn.Module], Target] = TARGET,
        predictor: Callable[[int], nn.Module] = BlockPredictor,
        optim: Optim = OPTIM,
        batch_size: int = 256,
    ):
        super().__init__(backbone, optim, batch_size)
        backbone.check_skips_patches()
        self.encoder = MaskedViTEncoder()
        self.target = target(backbone)
        self.predictor = predictor(backbone.dim)

    @property
    def eval_backbone(self) -> Backbone:
        return averaged_or_online(self.target, self.backbone)

    def compute_losses(self, crops: BlockMaskedImages) -> dict[str, Tensor]:
        side = crops.images.shape[-1] // crops.grid
        if side != self.backbone.patch_size:
            rule = f"must be the patch size of {self.backbone.name}"
            raise ConfigError("mask_patch_size", side, rule, suggest=self.backbone.patch_size)
        images = self.backbone.normalize(crops.images)
        tokens = self.encoder(self.backbone, images, crops.context)[:, self.backbone.num_prefix_tokens :]
        grid = (crops.grid, crops.grid)
        predicted = self.predictor(tokens, crops.context, crops.targets, grid).float()
        return {"loss": F.smooth_l1_loss(predicted, self.targets(images, crops.targets))}

    @torch.no_grad()
    def targets(
        self, images: Float[Tensor, "b c s s"], blocks: Int64[Tensor, "b m t"]
    ) -> Float[Tensor, "b m t d"]:
        """Return the features to predict: of the whole image, with mean 0 and variance 1 in each patch.

        Args:
            images: normalized.
            blocks: indices of the patches of each target block, in row-major order of the grid.
        """
        tokens = self.target(self.backbone, images).grid.float().flatten(2).transpose(1, 2)
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        indices = blocks.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, indices).unflatten(1, blocks.shape[1:])

    def target_pairs(self) -> list[tuple[Target, nn.Module]]:
        return [(self.target, self.backbone)]
