"""Feature maps of a backbone at several depths, as heads for dense prediction want them."""

from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone

COUNT = 4


class MultiScaleFeatures:
    """Which feature maps of a backbone are read, from the shallowest on.

    Hierarchical backbones: the last map of each stride, of which the last four. Plain ones, all of whose
    blocks have one stride: after each quarter of the blocks (3, 6, 9, 12 of 12), as BEiT's segmentation
    does; a block is read twice where there are fewer than four.

    Attributes:
        widths, strides: channels, and pixels a cell, of each level.

    Raises:
        ConfigError: timm does not say what this architecture's intermediate features are.
    """

    def __init__(self, backbone: Backbone):
        info = getattr(backbone.model, "feature_info", None)
        if not info or not hasattr(backbone.model, "forward_intermediates"):
            raise ConfigError(
                f"backbone.name={backbone.timm_kwargs['model_name']}: timm has no intermediate features, "
                "which UperNet reads; try the linear head"
            )
        strides = [int(level["reduction"]) for level in info]
        if len(set(strides)) == 1:
            self.indices = [max(round(len(info) * (k + 1) / COUNT), 1) - 1 for k in range(COUNT)]
        else:
            last = {stride: i for i, stride in enumerate(strides)}
            self.indices = [last[stride] for stride in sorted(last)][-COUNT:]
        self.widths = [int(info[i]["num_chs"]) for i in self.indices]
        self.strides = [strides[i] for i in self.indices]

    @property
    def plain(self) -> bool:
        """Whether all levels have one stride."""
        return len(set(self.strides)) == 1

    def read(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The levels of normalized images."""
        wanted = sorted(set(self.indices))
        found = backbone.model.forward_intermediates(
            images, indices=wanted, output_fmt="NCHW", intermediates_only=True
        )
        by_index = dict(zip(wanted, found, strict=True))
        return [by_index[i] for i in self.indices]
