"""Features averaged over the last layers of a backbone, for probes that look less deep."""

import inspect

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.errors import SettingError
from cim_lightning.models.backbone import Backbone, Features


class LastLayers(nn.Module):
    """Reads a backbone after each of its last blocks, through its final norm where it has one.

    Args:
        backbone: not copied.
        count: blocks, 1 or more; of architectures in stages, stages.

    Raises:
        SettingError: the architecture has fewer of them, their widths differ, or timm cannot say what lies
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
            name = backbone.recipe["model_name"]
            raise SettingError(
                f"evaluation.linear.layers={count}: {name} must have so many last layers, "
                f"of one width; nearest: {min(max(count, 1), max(sum(alike), 1))}"
            )
        model = backbone.model
        reads = inspect.signature(model.forward_intermediates).parameters
        self.tokens = "return_prefix_tokens" in reads and getattr(model, "num_prefix_tokens", 0) > 0

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Means over the layers: of class tokens, or without them of means over the grid, and of grids."""
        asked = {"return_prefix_tokens": True} if self.tokens else {}
        found = self.backbone.model.forward_intermediates(
            images, indices=self.count, norm=True, output_fmt="NCHW", intermediates_only=True, **asked
        )
        grid = torch.stack([layer[0] if self.tokens else layer for layer in found]).mean(dim=0)
        if not self.tokens:
            return Features(grid.mean(dim=(2, 3)), grid)
        return Features(torch.stack([prefix[:, 0] for _, prefix in found]).mean(dim=0), grid)
