"""Decoders of CIM: correlation maps from the features of context and exemplars.

They predict two classes, exemplar and background. Softmax cross-entropy on two logits equals
sigmoid cross-entropy on their difference. Upsampling is linear, so only the difference is upsampled.
"""

import math
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import build_sincos2d_pos_embed
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from cim_lightning.checks import check_above, check_at_least, check_divides
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Features
from cim_lightning.models.initialization import init_xavier
from cim_lightning.models.map_prior import MapPrior


@runtime_checkable
class Decoder(Protocol):
    """A module that predicts correlation maps. Every parameter must get a gradient, which DDP requires."""

    def __call__(
        self, context: Features, exemplars: Features, size: tuple[int, int]
    ) -> Float[Tensor, "b k s s"]:
        """Return logits of `size` (height, width) for b contexts with k exemplars each (b k rows)."""
        ...


class CorrelationDecoder(nn.Module):
    """Cross-attention from context to exemplar tokens (paper, section 3.3).

    Args:
        dim: width of the backbone's features.
        width: width of the decoder; a multiple of num_heads and of 4 (for the sine-cosine positions).
        depth: number of cross-attention blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLPs, in units of width.
        prior: logits "h w" of the map at which the decoder starts; None: a random start, as in the paper.
        head_std: standard deviation of the initial weights of the last layer, which is 1 in the released
            code. None: Xavier-uniform, with initial logits near 0.
    """

    def __init__(
        self,
        dim: int,
        width: int = 512,
        depth: int = 1,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        prior: Tensor | None = None,
        head_std: float | None = None,
    ):
        super().__init__()
        check_sizes(width, depth, mlp_ratio, num_heads)
        check_above("head_std", head_std, 0, suggest=1.0)
        if prior is not None and head_std is not None:
            rule = "with a prior, the last layer starts at 0"
            raise ConfigError("head_std", head_std, rule, suggest=None)
        self.width = width
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(CrossAttention(width, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 2)
        self.apply(init_xavier)
        if head_std is not None:
            nn.init.normal_(self.head.weight, std=head_std)
        self.prior = nn.Identity() if prior is None else MapPrior(prior, self.head)

    def forward(
        self, context: Features, exemplars: Features, size: tuple[int, int]
    ) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
        """Return logits of `size` (height, width) for b contexts with k exemplars each (b k rows)."""
        b, _, h, w = context.grid.shape
        positions = build_sincos2d_pos_embed([h, w], self.width, device=context.grid.device)
        queries = self.embed(context.grid.flatten(2).transpose(1, 2)) + positions
        keys = self.embed_exemplars(exemplars, b)
        queries = queries[:, None]  # the same for all exemplars, so the first block projects them once
        for block in self.blocks:
            queries = block(queries, keys)
        return self.prior(_upsample(self.head(self.norm(queries)).unflatten(-2, (h, w)), size))

    def embed_exemplars(self, exemplars: Features, b: int) -> Float[Tensor, "{b} k m width"]:
        """Return the tokens to which the contexts attend, for b k exemplars."""
        return self.embed(_tokens(exemplars)).unflatten(0, (b, -1))


class CrossAttention(nn.Module):
    """Pre-norm block: queries from the context, keys and values from an exemplar; both share a norm."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(
        self, queries: Float[Tensor, "b #k n d"], keys: Float[Tensor, "b k m d"]
    ) -> Float[Tensor, "b k n d"]:
        query = self._heads(self.query(self.norm1(queries)))
        key, value = self.key_value(self.norm1(keys)).chunk(2, dim=-1)
        query = query.expand(-1, keys.shape[1], -1, -1, -1)
        mixed = F.scaled_dot_product_attention(query, self._heads(key), self._heads(value))
        queries = queries + self.out(mixed.transpose(-3, -2).flatten(-2))
        return queries + self.mlp(self.norm2(queries))

    def _heads(self, tokens: Float[Tensor, "b k n d"]) -> Float[Tensor, "b k heads n dh"]:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)


class ConvolutionDecoder(nn.Module):
    """Depth-wise correlation of feature maps, without attention (an ablation of the paper).

    Args:
        dim: width of the backbone's features.
        width: width of the decoder.
        depth: number of MLP blocks after the correlation.
        mlp_ratio: hidden width of the MLPs, in units of width.
        prior: see CorrelationDecoder.
    """

    def __init__(
        self,
        dim: int,
        width: int = 512,
        depth: int = 1,
        mlp_ratio: float = 4.0,
        prior: Tensor | None = None,
    ):
        super().__init__()
        check_sizes(width, depth, mlp_ratio)
        self.embed = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width, eps=1e-6), Mlp(width, int(width * mlp_ratio)))
            for _ in range(depth)
        )
        last = nn.Linear(width, 2)
        self.head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), last)
        self.apply(init_xavier)
        self.prior = nn.Identity() if prior is None else MapPrior(prior, last)

    def forward(
        self, context: Features, exemplars: Features, size: tuple[int, int]
    ) -> Float[Tensor, "b k {size[0]} {size[1]}"]:
        """Return logits of `size` (height, width) for b contexts with k exemplars each (b k rows)."""
        maps = self._project(context.grid)
        kernels = self._project(exemplars.grid).unflatten(0, (len(context.grid), -1))
        b, k, d, h, w = kernels.shape
        maps = F.pad(maps, ((w - 1) // 2, w // 2, (h - 1) // 2, h // 2))
        maps = maps[:, None].expand(-1, k, -1, -1, -1).flatten(0, 2)[None]
        correlations = F.conv2d(maps, kernels.flatten(0, 2)[:, None] / (h * w), groups=b * k * d)
        tokens = correlations[0].unflatten(0, (b, k, d)).movedim(2, -1)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.prior(_upsample(self.head(tokens), size))

    def _project(self, grid: Float[Tensor, "n d1 h w"]) -> Float[Tensor, "n d2 h w"]:
        return self.norm(self.embed(grid.movedim(1, -1))).movedim(-1, 1)


def check_sizes(width: int, depth: int, mlp_ratio: float, num_heads: int | None = None) -> None:
    """Raise ConfigError for sizes that the blocks of a decoder cannot have.

    With attention, the width is a multiple of num_heads, and of 4 for sine-cosine positions.
    """
    if num_heads is not None:
        check_at_least("num_heads", num_heads, 1)
        if width < 4 or width % 4:
            unit = math.lcm(4, num_heads)
            rule = "must be a multiple of 4, for sine-cosine positions"
            raise ConfigError("width", width, rule, suggest=max(round(width / unit), 1) * unit)
        check_divides("num_heads", num_heads, width, f"must divide width={width}")
    check_at_least("width", width, 1)
    check_at_least("depth", depth, 1)
    if not 1 <= width * mlp_ratio < math.inf:
        raise ConfigError("mlp_ratio", mlp_ratio, "must give the MLP at least one hidden unit", suggest=4)


def _tokens(features: Features) -> Float[Tensor, "n m d"]:
    """Return the pooled vector and the grid as tokens, like a ViT with a class token."""
    return torch.cat((features.pooled[:, None], features.grid.flatten(2).transpose(1, 2)), dim=1)


def _upsample(logits: Float[Tensor, "b k h w 2"], size: tuple[int, int]) -> Float[Tensor, "b k y x"]:
    background, exemplar = logits.unbind(dim=-1)
    return F.interpolate((exemplar - background).float(), size, mode="bilinear", align_corners=True)
