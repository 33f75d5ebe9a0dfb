"""Features averaged over the last layers of a backbone, for probes that look less deep."""

import inspect

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features


class LastLayers(nn.Module):
    """Reads a backbone after each of its last blocks, through its final norm where it has one.

    Args:
        backbone: not copied.
        count: blocks, 1 or more; of architectures in stages, stages.

    Raises:
        ConfigError: the architecture has fewer of them, their widths differ, or timm cannot say what lies
            between them.
    """

    def __init__(self, backbone: Backbone, count: int):
        super().__init__()
        self.backbone, self.count = backbone, count
        info = getattr(backbone.model, "feature_info", None) or []
        widths = [int(level["num_chs"]) for level in info[-count:]]
        if count < 1 or len(widths) < count or len(set(widths)) > 1:
            alike = [
                len({int(level["num_chs"]) for level in info[-n:]}) == 1 for n in range(1, len(info) + 1)
            ]
            name = backbone.timm_kwargs["model_name"]
            raise ConfigError(
                f"evaluation.linear.layers={count}: {name} must have so many last layers, "
                f"of one width; try {min(max(count, 1), max(sum(alike), 1))}"
            )
        # Of token models, what a layer says is pooled as the last layer's is; of others, over the grid.
        reads = inspect.signature(backbone.model.forward_intermediates).parameters
        self.tokens = "return_prefix_tokens" in reads
        self.prefix = self.tokens and backbone.model.num_prefix_tokens > 0

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Means over the layers, of what is pooled and of grids."""
        asked = {"return_prefix_tokens": True} if self.prefix else {}
        found = self.backbone.model.forward_intermediates(
            images, indices=self.count, norm=True, output_fmt="NCHW", intermediates_only=True, **asked
        )
        layers = found if self.prefix else [(grid, None) for grid in found]
        pooled = torch.stack([self._pooled(grid, prefix) for grid, prefix in layers])
        return Features(pooled.mean(dim=0), torch.stack([grid for grid, _ in layers]).mean(dim=0))

    def _pooled(self, grid: Float[Tensor, "b d h w"], prefix: Tensor | None) -> Float[Tensor, "b d"]:
        if not self.tokens:
            return grid.mean(dim=(2, 3))
        tokens = grid.flatten(2).transpose(1, 2)
        tokens = tokens if prefix is None else torch.cat((prefix, tokens), dim=1)
        return self.backbone.model.forward_head(tokens, pre_logits=True)
