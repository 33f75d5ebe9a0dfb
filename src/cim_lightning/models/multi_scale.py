"""Feature maps of a backbone at four depths, for dense prediction."""

from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone

NUM_LEVELS = 4


class MultiScaleFeatures:
    """Select and extract four feature maps, from shallow to deep.

    Hierarchical backbones: the last map of each of the last four strides. Plain backbones, whose blocks all
    have the same stride: the map after each quarter of the blocks (3, 6, 9, 12 of 12), as in BEiT's
    segmentation. With fewer than four blocks, a block is used more than once.

    Attributes:
        indices: of timm's intermediate features.
        widths: channels of each level.
        strides: pixels per cell of each level.

    Raises:
        ConfigError: timm has no intermediate features of the architecture.
    """

    def __init__(self, backbone: Backbone):
        info = getattr(backbone.model, "feature_info", None)
        if not info or not hasattr(backbone.model, "forward_intermediates"):
            rule = "timm has no intermediate features of it, which UperNet needs"
            raise ConfigError("name", backbone.name, rule, hint="use the linear head")
        strides = [int(level["reduction"]) for level in info]
        if len(set(strides)) == 1:
            self.indices = [max(round(len(info) * (k + 1) / NUM_LEVELS), 1) - 1 for k in range(NUM_LEVELS)]
        else:
            last = {stride: i for i, stride in enumerate(strides)}
            self.indices = [last[stride] for stride in sorted(last)][-NUM_LEVELS:]
        self.widths = [int(info[i]["num_chs"]) for i in self.indices]
        self.strides = [strides[i] for i in self.indices]

    def extract(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the feature maps of normalized images."""
        indices = sorted(set(self.indices))
        found = backbone.model.forward_intermediates(
            images, indices=indices, output_fmt="NCHW", intermediates_only=True
        )
        by_index = dict(zip(indices, found, strict=True))
        return [by_index[i] for i in self.indices]
