"""Backbones on masked images: a ViT that skips masked patches (MAE), and mask tokens (SimMIM)."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features


class MaskedViTEncoder(nn.Module):
    """Encodes only the visible patches with a ViT. It is a module without weights, to be compiled."""

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], visible: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b n d"]:
        """Return the output of `backbone.forward_visible`."""
        return backbone.forward_visible(images, visible)


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
        embed: Any = backbone.patch_embed
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
        side = patches.shape[1] if patches.ndim == 4 else math.isqrt(patches.shape[1])
        mask = upsample_mask(self.mask, (side, side))
        mask = mask if patches.ndim == 4 else mask.flatten(1)
        return torch.where(mask[..., None], self.token.to(patches.dtype), patches)


def pooled_tokens(backbone: Backbone, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
    """Return the class token in the output of MaskedViTEncoder; of a backbone without one, the mean."""
    return tokens[:, 0] if backbone.num_prefix_tokens else tokens.mean(dim=1)


def visible_patches(
    mask: Bool[Tensor, "b h w"], num_masked: int, grid: tuple[int, int]
) -> tuple[Bool[Tensor, "b n"], Int64[Tensor, "b v"]]:
    """Return the mask of the patches of a grid of (rows, columns), and the indices of the visible ones.

    Args:
        mask: True for masked cells.
        num_masked: masked cells of each image.

    Raises:
        ConfigError: see `upsample_mask`.
    """
    patches = upsample_mask(mask, grid).flatten(1)
    cells = mask[0].numel()
    num_visible = patches.shape[1] // cells * (cells - num_masked)  # equal for all images
    return patches, patches.int().argsort(dim=1, stable=True)[:, :num_visible]


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
