"""The decoder of MAE: pixels of all patches from the tokens of the visible ones."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cim_lightning.models.decoder import check_sizes
from cim_lightning.models.initialization import init_xavier


class PixelDecoder(nn.Module):
    """Narrow transformer over the visible tokens, with a mask token for each masked patch (MAE, section 3).

    Args:
        dim: width of the backbone's tokens.
        pixels: values per patch to predict.
        width: width of the decoder; a multiple of num_heads and of 4 (for the sine-cosine positions).
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs, in units of width.
    """

    def __init__(
        self,
        dim: int,
        pixels: int,
        width: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
    ):
        super().__init__()
        check_sizes(width, depth, mlp_ratio, num_heads)
        self.width = width
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(Block(width, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
        self.norm = norm(width)
        self.head = nn.Linear(width, pixels)
        self.apply(init_xavier)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, tokens: Float[Tensor, "b m d"], visible: Int64[Tensor, "b v"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n pixels"]:
        """Return the pixels of all n patches; for the arguments see `fill_in`."""
        return self.head(self.fill_in(tokens, visible, grid))

    def fill_in(
        self, tokens: Float[Tensor, "b m d"], visible: Int64[Tensor, "b v"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n width"]:
        """Return features of all n patches, in row-major order of a grid of (rows, columns).

        Args:
            tokens: prefix tokens, then the tokens of the visible patches.
            visible: indices of the visible patches in the grid.
        """
        tokens = self.embed(tokens)
        prefix = tokens.shape[1] - visible.shape[1]
        masked = self.mask_token.to(tokens.dtype).expand(len(tokens), grid[0] * grid[1], -1)
        indices = visible[..., None].expand(-1, -1, self.width)
        patches = masked.scatter(1, indices, tokens[:, prefix:])
        patches = patches + build_sincos2d_pos_embed(list(grid), self.width, device=tokens.device)
        return self.norm(self.blocks(torch.cat((tokens[:, :prefix], patches), dim=1)))[:, prefix:]
