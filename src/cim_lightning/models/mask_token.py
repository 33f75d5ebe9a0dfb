"""A learned token in the place of hidden patches, whatever the backbone's family."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Backbone, Features
from cim_lightning.models.masked_vit import on_patches


class MaskTokenHook(nn.Module):
    """Shows a backbone images of which some cells are mask.

    A backbone that embeds patches (ViT, Swin) gets a learned token for each hidden one, right after the
    embedding and before positions are added; others see hidden pixels as 0, the mean color of normalized
    images. The exchange happens in a hook on the patch embedding, so it needs nothing of the family.

    Args:
        backbone: the network that will be shown images.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.mask: Bool[Tensor, "b h w"] | None = None  # while a masked image is shown
        embed = getattr(backbone.model, "patch_embed", None)
        self.token = None
        if embed is not None:
            self.token = nn.Parameter(torch.empty(embed.proj.out_channels))
            nn.init.trunc_normal_(self.token, std=0.02)
            embed.register_forward_hook(self._exchange)

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], mask: Bool[Tensor, "b h w"]
    ) -> Features:
        """Features of normalized images whose hidden cells are not seen."""
        if self.token is None:
            seen = ~on_patches(mask, (images.shape[-2], images.shape[-1]), "cropping.mask_patch_size")
            return backbone(images * seen[:, None])
        with self._over(mask):
            return backbone(images)

    @contextmanager
    def _over(self, mask: Bool[Tensor, "b h w"]) -> Iterator[None]:
        self.mask = mask
        try:
            yield
        finally:
            self.mask = None

    def _exchange(self, embed: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        """A ViT's patches come as "b h w d" or "b n d", a Swin's as "b h w d"."""
        if self.mask is None or self.token is None:
            return patches
        side = inputs[0].shape[-1] // embed.patch_size[0]  # pyright: ignore
        mask = on_patches(self.mask, (side, side), "cropping.mask_patch_size")
        mask = mask if patches.ndim == 4 else mask.flatten(1)
        return torch.where(mask[..., None], self.token.to(patches.dtype), patches)
