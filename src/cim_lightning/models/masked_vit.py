"""A ViT that encodes only the visible patches of an image."""

import torch
from jaxtyping import Bool, Float, Int64
from timm.models import VisionTransformer
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone


class MaskedViTEncoder(nn.Module):
    """Encode visible patches with a ViT; hidden patches enter no block, so they cost nothing.

    It has no weights. It is a module so that it can be compiled.
    """

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], visible: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b n d"]:
        """Return the normalized prefix tokens (class, registers) and tokens of the visible patches.

        Args:
            backbone: a ViT (see check_vit).
            images: normalized.
            visible: indices of the visible patches of each image, in row-major order of the grid.
        """
        vit = backbone.model
        tokens = vit._pos_embed(vit.patch_embed(images))
        prefix, patches = tokens[:, : vit.num_prefix_tokens], tokens[:, vit.num_prefix_tokens :]
        patches = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[-1]))
        return vit.norm(vit.blocks(vit.norm_pre(torch.cat((prefix, patches), dim=1))))


def check_vit(backbone: Backbone) -> None:
    """Raise ConfigError if a backbone cannot skip patches."""
    if not isinstance(backbone.model, VisionTransformer):
        rule = "is not a ViT, and only a ViT can skip the hidden patches"
        raise ConfigError(
            "name", backbone.name, rule, hint="try backbone=vit_small_patch16, or method=simmim"
        )


def upsample_mask(
    mask: Bool[Tensor, "b h w"], grid: tuple[int, int]
) -> Bool[Tensor, "b {grid[0]} {grid[1]}"]:
    """Return a mask on a grid that is as fine or finer.

    Raises:
        ConfigError: the cells of the mask are not whole cells of the grid.
    """
    for cells, patches in zip(mask.shape[1:], grid, strict=True):
        if patches % cells:
            raise ConfigError(
                f"mask_patch_size: {cells} cells per side are not whole patches, {patches} per side; "
                "use a multiple of the patch size"
            )
    rows, columns = grid[0] // mask.shape[1], grid[1] // mask.shape[2]
    return mask.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
