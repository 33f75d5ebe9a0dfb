"""A linear classifier of the cells to which a learned query attends."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

HEAD_DIM = 64  # width of an attention head, as in ViTs
EPS = 1e-5  # of the norm


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
        self.norm = nn.LayerNorm(dim, EPS)
        self.query = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.query, std=0.02)
        num_heads = 1 if dim % HEAD_DIM else dim // HEAD_DIM
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, cells: Float[Tensor, "b m d"]) -> Float[Tensor, "b n"]:
        """Return the logits of `normalized_cells(grid)`, which several classifiers can share."""
        return self.linear(self.attention.out_proj(self._attend(cells).flatten(1)))

    def _attend(self, cells: Float[Tensor, "b m d"]) -> Float[Tensor, "b heads c"]:
        """Return the result of every head: the same function as of `self.attention` on `self.norm(cells)`.

        There is one query. So the projections of keys and values, and scale and shift of the norm, are
        applied to the query and to the weighted mean of the cells. No cell needs a matrix product of its own.
        """
        heads = (self.attention.num_heads, self.attention.head_dim)
        weights, biases = self.attention.in_proj_weight.chunk(3), self.attention.in_proj_bias.chunk(3)
        query = F.linear(self.query[0, 0], weights[0], biases[0]).unflatten(0, heads)
        keys, values = (weight.unflatten(0, heads) for weight in weights[1:])
        # The bias of the keys and the shift of the norm change all scores equally, which softmax ignores.
        directions = torch.einsum("hc, hcd -> hd", query, keys) * self.norm.weight / heads[1] ** 0.5
        shares = (cells @ directions.T).softmax(dim=1)
        means = shares.transpose(1, 2) @ cells * self.norm.weight + self.norm.bias
        return torch.einsum("bhd, hcd -> bhc", means, values) + biases[2].unflatten(0, heads)


def normalized_cells(grid: Float[Tensor, "b d h w"]) -> Float[Tensor, "b m d"]:
    """Return the cells of a grid with mean 0 and deviation 1 over their channels."""
    cells = grid.flatten(2).transpose(1, 2)
    return F.layer_norm(cells, cells.shape[2:], eps=EPS)
