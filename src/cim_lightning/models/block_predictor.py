"""The predictor of I-JEPA: features of target blocks from the features of the context."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cim_lightning.models.decoder import check_sizes
from cim_lightning.models.initialization import init_xavier


class BlockPredictor(nn.Module):
    """Narrow transformer over the context and one target block at a time (I-JEPA, section 3).

    Args:
        dim: width of the backbone's tokens.
        width: width of the predictor; a multiple of num_heads and of 4 (for the sine-cosine positions).
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs, in units of width.
    """

    def __init__(
        self, dim: int, width: int = 384, depth: int = 6, num_heads: int = 12, mlp_ratio: float = 4.0
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
        self.head = nn.Linear(width, dim)
        self.apply(init_xavier)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self,
        tokens: Float[Tensor, "b v d"],
        context: Int64[Tensor, "b v"],
        targets: Int64[Tensor, "b m t"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "b m t d"]:
        """Return the predicted features of m target blocks.

        Args:
            tokens: of the context patches.
            context: indices of the context patches in a grid of (rows, columns), in row-major order.
            targets: indices of the patches of each block.
        """
        positions = build_sincos2d_pos_embed(list(grid), self.width, device=tokens.device)
        known = self.embed(tokens) + positions[context]
        known = known[:, None].expand(-1, targets.shape[1], -1, -1)
        sequences = torch.cat((known, self.mask_token + positions[targets]), dim=2).flatten(0, 1)
        predicted = self.norm(self.blocks(sequences))[:, context.shape[1] :]
        return self.head(predicted).unflatten(0, targets.shape[:2])
