"""Features averaged over the last layers of a backbone."""

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features


class LastLayers(nn.Module):
    """Mean of the features after each of the last blocks, with the model's final norm if it has one.

    Args:
        backbone: not copied.
        layers: number of blocks, or of stages in hierarchical architectures.

    Raises:
        ConfigError: the architecture has fewer layers, or they differ in width.
    """

    def __init__(self, backbone: Backbone, layers: int):
        super().__init__()
        self.backbone, self.layers = backbone, layers
        info = getattr(backbone.model, "feature_info", None) or []
        widths = [int(level["num_chs"]) for level in reversed(info)]
        available = sum(len(set(widths[:n])) == 1 for n in range(1, len(widths) + 1))
        if not 1 <= layers <= available:
            rule = f"{backbone.name} has {available} last layer(s) of the same width"
            raise ConfigError("layers", layers, rule, suggest=available if layers > 0 and available else 1)
        # Models with tokens apply their own pooling to each layer; others average the grid.
        parameters = inspect.signature(backbone.model.forward_intermediates).parameters
        self.has_tokens = "return_prefix_tokens" in parameters
        self.has_prefix = self.has_tokens and backbone.model.num_prefix_tokens > 0

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Return the means of the pooled features and of the grids over the layers."""
        kwargs: dict[str, Any] = {"indices": self.layers, "norm": True, "output_fmt": "NCHW"}
        kwargs |= {"return_prefix_tokens": True} if self.has_prefix else {}
        outputs = self.backbone.model.forward_intermediates(images, intermediates_only=True, **kwargs)
        layers = outputs if self.has_prefix else [(grid, None) for grid in outputs]
        pooled = torch.stack([self._pool(grid, prefix) for grid, prefix in layers])
        return Features(pooled.mean(dim=0), torch.stack([grid for grid, _ in layers]).mean(dim=0))

    def _pool(self, grid: Float[Tensor, "b d h w"], prefix: Tensor | None) -> Float[Tensor, "b d"]:
        if not self.has_tokens:
            return grid.mean(dim=(2, 3))
        tokens = grid.flatten(2).transpose(1, 2)
        tokens = tokens if prefix is None else torch.cat((prefix, tokens), dim=1)
        return self.backbone.model.forward_head(tokens, pre_logits=True)
