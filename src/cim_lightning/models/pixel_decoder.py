"""MAE's decoder: the pixels of all patches from the tokens of the visible ones (He et al., section 3)."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cim_lightning.errors import ConfigError


class PixelDecoder(nn.Module):
    """A narrow transformer over the visible tokens and, in the place of every hidden patch, one mask token.

    Args:
        dim: width of the backbone's tokens.
        pixels: values of a patch, which are predicted.
        width: width of the decoder; a multiple of num_heads and of 4 (for the sine-cosine positions).
        depth: number of blocks, 1 or more.
        num_heads: attention heads.
        mlp_ratio: hidden width of the blocks' MLPs in units of width.

    Raises:
        ConfigError: width, depth and num_heads do not fit together.
    """

    def __init__(self, dim: int, pixels: int, width: int, depth: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        if num_heads < 1 or width < 4 or width % num_heads or width % 4:
            raise ConfigError(
                f"decoder.num_heads={num_heads}: must divide decoder.width={width}, itself a multiple of 4; "
                "try width=512, num_heads=16"
            )
        if depth < 1:
            raise ConfigError(f"decoder.depth={depth}: at least one block; try 1")
        self.width = width
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(Block(width, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
        self.norm = norm(width)
        self.head = nn.Linear(width, pixels)
        self.apply(_init)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, tokens: Float[Tensor, "b m d"], visible: Int64[Tensor, "b v"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n pixels"]:
        """Pixels of all n patches of a grid of (rows, columns), row by row.

        Args:
            tokens: prefix tokens, then those of the visible patches.
            visible: where in the grid these lie.
        """
        tokens = self.embed(tokens)
        prefix = tokens.shape[1] - visible.shape[1]
        count = grid[0] * grid[1]
        places = visible[..., None].expand(-1, -1, self.width)
        empty = self.mask_token.to(tokens.dtype).expand(len(tokens), count, -1)
        patches = empty.scatter(1, places, tokens[:, prefix:])
        patches = patches + build_sincos2d_pos_embed(list(grid), self.width, device=tokens.device)
        read = self.norm(self.blocks(torch.cat((tokens[:, :prefix], patches), dim=1)))
        return self.head(read[:, prefix:])


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
