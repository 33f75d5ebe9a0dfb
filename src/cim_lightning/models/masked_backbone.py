"""Backbones on masked images: a ViT that skips masked patches (MAE), and mask tokens (SimMIM)."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from timm.models import VisionTransformer
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features


class MaskedViTEncoder(nn.Module):
    """Encodes only the visible patches with a ViT. It is a module without weights, to be compiled."""

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


class MaskTokenHook(nn.Module):
    """Runs a backbone on masked images.

    In a backbone with a patch embedding (ViT, Swin), a forward hook on the embedding replaces each masked
    patch by a learned token, before positions are added. For other backbones, masked pixels are 0, the mean
    color of normalized images.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.mask: Bool[Tensor, "b h w"] | None = None  # during a forward pass on masked images
        self.token = None
        embed = getattr(backbone.model, "patch_embed", None)
        if embed is not None:
            self.token = nn.Parameter(torch.empty(embed.proj.out_channels))
            nn.init.trunc_normal_(self.token, std=0.02)
            embed.register_forward_hook(self._replace_masked)

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], mask: Bool[Tensor, "b h w"]
    ) -> Features:
        """Return the features of normalized images; the mask is True for masked cells."""
        if self.token is None:
            visible = ~upsample_mask(mask, (images.shape[-2], images.shape[-1]))
            return backbone(images * visible[:, None])
        self.mask = mask
        try:
            return backbone(images)
        finally:
            self.mask = None

    def _replace_masked(self, embed: Any, inputs: Any, patches: Tensor) -> Tensor:
        """Replace masked patches, of shape "b h w d" (Swin, some ViTs) or "b n d" (ViT)."""
        if self.mask is None or self.token is None:
            return patches
        side = inputs[0].shape[-1] // embed.patch_size[0]
        mask = upsample_mask(self.mask, (side, side))
        mask = mask if patches.ndim == 4 else mask.flatten(1)
        return torch.where(mask[..., None], self.token.to(patches.dtype), patches)


def check_vit(backbone: Backbone) -> None:
    """Raise ConfigError if a backbone cannot skip masked patches."""
    if not isinstance(backbone.model, VisionTransformer):
        hint = "try a vision transformer, or the method simmim"
        raise ConfigError("name", backbone.name, "is not a ViT, so it cannot skip patches", hint=hint)


def upsample_mask(
    mask: Bool[Tensor, "b h w"], grid: tuple[int, int]
) -> Bool[Tensor, "b {grid[0]} {grid[1]}"]:
    """Return a mask on a finer grid of (rows, columns).

    Raises:
        ConfigError: a cell of the mask is not a whole number of grid cells.
    """
    for dim, patches in enumerate(grid, start=1):
        cells = mask.shape[dim]
        if patches % cells:
            rule = f"{cells} cells per side are not whole patches, {patches} per side"
            raise ConfigError("mask_patch_size", rule=rule, hint="use a multiple of the patch size")
        mask = mask.repeat_interleave(patches // cells, dim=dim)
    return mask
