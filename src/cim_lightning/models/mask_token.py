"""A learned mask token for any backbone."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Backbone, Features
from cim_lightning.models.masked_vit import upsample_mask


class MaskTokenHook(nn.Module):
    """Run a backbone on masked images.

    In a backbone with a patch embedding (ViT, Swin), a forward hook on the embedding replaces each masked
    patch by a learned token, before positions are added. For other backbones, masked pixels are 0, the mean
    color of normalized images.

    Args:
        backbone: the network to hook.
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
        """Return the features of normalized images, True in the mask for hidden cells."""
        if self.token is None:
            visible = ~upsample_mask(mask, (images.shape[-2], images.shape[-1]))
            return backbone(images * visible[:, None])
        self.mask = mask
        try:
            return backbone(images)
        finally:
            self.mask = None

    def _replace_masked(self, embed: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        """Replace masked patches, of shape "b h w d" (Swin, some ViTs) or "b n d" (ViT)."""
        if self.mask is None or self.token is None:
            return patches
        side = inputs[0].shape[-1] // embed.patch_size[0]  # pyright: ignore
        mask = upsample_mask(self.mask, (side, side))
        mask = mask if patches.ndim == 4 else mask.flatten(1)
        return torch.where(mask[..., None], self.token.to(patches.dtype), patches)
