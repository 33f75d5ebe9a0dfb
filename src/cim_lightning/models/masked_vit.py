"""A vision transformer that is shown some of an image's patches only."""

import torch
from jaxtyping import Bool, Float, Int64
from timm.models import VisionTransformer
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone


class MaskedViTEncoder(nn.Module):
    """Reads an image with a ViT from which the hidden patches are absent: no token, no attention, no cost.

    It has no weights; it is a module so that it can be compiled.
    """

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], visible: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b n d"]:
        """Tokens after the last norm: class and register tokens, then the visible patches in their order.

        Args:
            backbone: a ViT (see check_vit).
            images: normalized.
            visible: which patches of the grid, counted row by row, are seen of each image.
        """
        vit = backbone.model
        tokens = vit._pos_embed(vit.patch_embed(images))
        prefix, patches = tokens[:, : vit.num_prefix_tokens], tokens[:, vit.num_prefix_tokens :]
        seen = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[-1]))
        return vit.norm(vit.blocks(vit.norm_pre(torch.cat((prefix, seen), dim=1))))


def check_vit(backbone: Backbone, method: str) -> None:
    """Raises ConfigError, on behalf of a method, if a backbone cannot leave patches out."""
    if not isinstance(backbone.model, VisionTransformer):
        name = backbone.timm_kwargs["model_name"]
        raise ConfigError(
            f"method={method}: leaves patches out, which a ViT can and backbone.name={name} cannot; "
            "try backbone=vit_small_patch16, or method=simmim"
        )


def on_patches(
    mask: Bool[Tensor, "b h w"], grid: tuple[int, int], setting: str
) -> Bool[Tensor, "b {grid[0]} {grid[1]}"]:
    """Which cells of a finer or equal grid are mask.

    Raises:
        ConfigError: the grid does not divide the hidden cells evenly; `setting` is what to change.
    """
    for cells, patches in zip(mask.shape[1:], grid, strict=True):
        if patches % cells:
            raise ConfigError(
                f"{setting}: {cells} cells a side are not whole patches of {patches} a side; "
                f"try a cropping.mask_patch_size that is a multiple of the patch"
            )
    rows, columns = grid[0] // mask.shape[1], grid[1] // mask.shape[2]
    return mask.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
