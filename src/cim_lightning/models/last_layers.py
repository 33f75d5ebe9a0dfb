"""Features averaged over the last layers of a backbone."""

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
        self.backbone, self.indices = backbone, range(-layers, 0)
        widths = [level.width for level in reversed(backbone.levels)]
        available = sum(len(set(widths[:n])) == 1 for n in range(1, len(widths) + 1))
        if not 1 <= layers <= available:
            rule = f"{backbone.name} has {available} last layer(s) of the same width"
            raise ConfigError("layers", layers, rule, suggest=available if layers > 0 else 1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Return the means of the pooled features and of the grids over the layers."""
        layers = self.backbone.intermediates(images, self.indices, norm=True)
        pooled, grids = zip(*layers, strict=True)
        return Features(torch.stack(pooled).mean(dim=0), torch.stack(grids).mean(dim=0))
