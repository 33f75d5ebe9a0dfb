"""A linear classifier of the cells to which a learned query attends."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

HEAD_DIM = 64  # width of an attention head, as in ViTs


class AttentiveClassifier(nn.Module):
    """Class logits of a grid: cross-attention of a learned query to its cells, then a linear layer.

    Args:
        dim: channels of the grid. If they are not a multiple of 64, the attention has one head.
        num_classes: logits per image.

    Source: attentive probing of Chen et al., "Context autoencoder for self-supervised representation
    learning", IJCV 2023. As in CAPI (Darcet et al., 2025), there is no MLP.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.query, std=0.02)
        num_heads = 1 if dim % HEAD_DIM else dim // HEAD_DIM
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, grid: Float[Tensor, "b d h w"]) -> Float[Tensor, "b n"]:
        cells = self.norm(grid.flatten(2).transpose(1, 2))
        query = self.query.expand(len(grid), -1, -1)
        attended, _ = self.attention(query, cells, cells, need_weights=False)
        return self.linear(attended[:, 0])
