"""A decoder of CIM whose exemplars attend to each other."""

from jaxtyping import Float
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor

from cim_lightning.models.backbone import Features
from cim_lightning.models.decoder import CorrelationDecoder, CrossAttention
from cim_lightning.models.initialization import init_xavier


class JointDecoder(CorrelationDecoder):
    """Attention between all exemplars of an image, then cross-attention as in CorrelationDecoder.

    Each exemplar token attends to the tokens of all exemplars of its image. A fixed sine-cosine code is added
    to the tokens of each exemplar, so that they differ from those of the others.

    Args:
        dim, width, depth, num_heads, mlp_ratio, prior, head_std: see CorrelationDecoder.
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
        super().__init__(dim, width, depth, num_heads, mlp_ratio, prior, head_std)
        self.exchange = CrossAttention(width, num_heads, mlp_ratio).apply(init_xavier)

    def embed_exemplars(self, exemplars: Features, b: int) -> Float[Tensor, "{b} k m width"]:
        tokens = super().embed_exemplars(exemplars, b)
        k = tokens.shape[1]
        codes = build_sincos2d_pos_embed([1, k], self.width, device=tokens.device)
        sequence = (tokens + codes[:, None]).flatten(1, 2)[:, None]
        return self.exchange(sequence, sequence)[:, 0].unflatten(1, (k, -1))
