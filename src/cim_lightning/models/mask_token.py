"""A learned token in the place of hidden patches, whatever the backbone's family."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cim_lightning.models.backbone import Backbone, Features
from cim_lightning.models.visible import on_patches


class MaskToken(nn.Module):
    """Shows a backbone images of which some cells are hidden.

    A backbone that embeds patches (ViT, Swin) gets a learned token for each hidden one, right after the
    embedding and before positions are added; others see hidden pixels as 0, the mean colour of normalised
    images. The exchange happens in a hook on the patch embedding, so it needs nothing of the family.

    Args:
        backbone: the network that will be shown images.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.hidden: Bool[Tensor, "b h w"] | None = None  # while a masked image is shown
        embed = getattr(backbone.model, "patch_embed", None)
        self.token = None
        if embed is not None:
            self.token = nn.Parameter(torch.empty(embed.proj.out_channels))
            nn.init.trunc_normal_(self.token, std=0.02)
            embed.register_forward_hook(self._exchange)

    def forward(
        self, backbone: Backbone, images: Float[Tensor, "b c s s"], hidden: Bool[Tensor, "b h w"]
    ) -> Features:
        """Features of normalised images whose hidden cells are not seen."""
        if self.token is None:
            seen = ~on_patches(hidden, (images.shape[-2], images.shape[-1]), "cropping.unit")
            return backbone(images * seen[:, None])
        with self._over(hidden):
            return backbone(images)

    @contextmanager
    def _over(self, hidden: Bool[Tensor, "b h w"]) -> Iterator[None]:
        self.hidden = hidden
        try:
            yield
        finally:
            self.hidden = None

    def _exchange(self, embed: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        """A ViT's patches come as "b h w d" or "b n d", a Swin's as "b h w d"."""
        if self.hidden is None or self.token is None:
            return patches
        side = inputs[0].shape[-1] // embed.patch_size[0]  # pyright: ignore
        hidden = on_patches(self.hidden, (side, side), "cropping.unit")
        hidden = hidden if patches.ndim == 4 else hidden.flatten(1)
        return torch.where(hidden[..., None], self.token.to(patches.dtype), patches)
