"""Heads that turn a backbone's feature maps into class logits a pixel: a linear one, and UperNet."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.multi_scale import MultiScaleFeatures

PLAIN_STRIDES = (1 / 4, 1 / 2, 1, 2)  # of a plain backbone's four levels after rescaling, in its patches


class LinearHead(nn.Module):
    """BatchNorm and a 1 x 1 convolution on the last grid: what a linear map says of each cell.

    Args:
        backbone: what it reads; not kept.
        num_classes: logits a cell.
    """

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(backbone.dim)
        self.classify = nn.Conv2d(backbone.dim, num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # pyright: ignore

    def read(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """What this head wants of the backbone."""
        return [backbone(images).grid]

    def forward(self, levels: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n y x"]:
        """Class logits on the grid."""
        return self.classify(self.norm(levels[-1]))


class UperNet(nn.Module):
    """Pyramid pooling on the deepest of four levels, a feature pyramid to the shallowest, all four fused.

    MultiScaleFeatures of a plain backbone are first brought to 1/4, 1/2, 1 and 2 times its stride by learned
    up-convolutions and a maximum.

    Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018; the rescaling: Bao
    et al., "BEiT", ICLR 2022.

    Args:
        backbone: what it reads; not kept.
        num_classes: logits a cell.
        width: channels throughout (512 in the literature).
        bins: sides of the grids that pyramid pooling averages into.
        dropout: share of channels dropped before the classifier, 0..1.
    """

    def __init__(self, backbone: Backbone, num_classes: int, width: int, bins: Sequence[int], dropout: float):
        super().__init__()
        for name, value in (("width", width), *(("bins", side) for side in bins)):
            if value < 1:
                raise ConfigError(f"evaluation.segmentation.head.{name}={value}: at least 1; try 1")
        if not 0 <= dropout < 1:
            raise ConfigError(f"evaluation.segmentation.head.dropout={dropout}: 0..1; try 0.1")
        self._levels = MultiScaleFeatures(backbone)
        widths = self._levels.widths
        self.rescale = nn.ModuleList(
            _rescale(channels, stride)
            for channels, stride in zip(
                widths, PLAIN_STRIDES if self._levels.plain else [1] * 4, strict=False
            )
        )
        self.bins = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _conv(widths[-1], width, 1)) for side in bins
        )
        self.pooled = _conv(widths[-1] + len(bins) * width, width, 3)
        self.lateral = nn.ModuleList(_conv(channels, width, 1) for channels in widths[:-1])
        self.smooth = nn.ModuleList(_conv(width, width, 3) for _ in widths[:-1])
        self.fuse = _conv(len(widths) * width, width, 3)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def read(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """What this head wants of the backbone."""
        return self._levels.read(backbone, images)

    def pyramid(self, levels: list[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _ _ _"]]:
        """MultiScaleFeatures of falling resolution, each of `width` channels."""
        levels = [rescale(level) for rescale, level in zip(self.rescale, levels, strict=True)]
        deepest = levels[-1]
        pooled = [_resize(pool(deepest), deepest) for pool in self.bins]
        tops = [self.pooled(torch.cat((deepest, *pooled), dim=1))]
        for lateral, level in zip(reversed(self.lateral), reversed(levels[:-1]), strict=True):
            side = lateral(level)
            tops.insert(0, side + _resize(tops[0], side))
        return [*(smooth(top) for smooth, top in zip(self.smooth, tops[:-1], strict=True)), tops[-1]]

    def forward(self, levels: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n y x"]:
        """Class logits on the grid of the shallowest level."""
        pyramid = self.pyramid(levels)
        return self.classify(self.fuse(torch.cat([_resize(level, pyramid[0]) for level in pyramid], dim=1)))


def _conv(channels: int, width: int, side: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, side, padding=side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _rescale(channels: int, stride: float) -> nn.Module:
    """Maps of 1 / stride times the size."""

    def up() -> nn.Module:
        return nn.ConvTranspose2d(channels, channels, 2, stride=2)

    if stride == 1 / 4:
        return nn.Sequential(up(), nn.BatchNorm2d(channels), nn.GELU(), up())
    if stride == 1 / 2:
        return up()
    return nn.Identity() if stride == 1 else nn.MaxPool2d(2, ceil_mode=True)  # of one cell remains one


def _resize(level: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(level, like.shape[-2:], mode="bilinear", align_corners=False)
