"""Semantic segmentation: feature maps at four depths, a linear head, UperNet, and backbone with head."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone

NUM_LEVELS = 4
PLAIN_STRIDES = (1 / 4, 1 / 2, 1, 2)  # of the rescaled levels of a plain backbone, in units of its stride


class MultiScaleFeatures:
    """Selects and extracts four feature maps, from shallow to deep.

    Hierarchical backbones: the last map of each of the last four strides. Plain backbones, whose levels all
    have the same stride: the map after each quarter of the blocks (3, 6, 9, 12 of 12), as in BEiT's
    segmentation. With fewer than four levels, a level is used more than once.
    """

    def __init__(self, backbone: Backbone):
        levels = backbone.levels
        if len({level.stride for level in levels}) == 1:
            self.indices = [max(round(len(levels) * (k + 1) / NUM_LEVELS), 1) - 1 for k in range(NUM_LEVELS)]
        else:
            last = {level.stride: i for i, level in enumerate(levels)}
            self.indices = [last[stride] for stride in sorted(last)][-NUM_LEVELS:]
        self.widths = [levels[i].width for i in self.indices]  # channels of each map
        self.strides = [levels[i].stride for i in self.indices]  # pixels per cell of each map

    def extract(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the feature maps of normalized images."""
        return [features.grid for features in backbone.intermediates(images, self.indices)]


class LinearHead(nn.Module):
    """Linear classifier of each grid cell, after batch normalization.

    Args:
        backbone: sets the input width.
        num_classes: logits per cell.
    """

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(backbone.dim)
        self.classify = nn.Conv2d(backbone.dim, num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # pyright: ignore

    def extract(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the feature maps that `forward` takes."""
        return [backbone(images).grid]

    def forward(self, levels: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n y x"]:
        """Return the class logits on the grid."""
        return self.classify(self.norm(levels[-1]))


class UperNet(nn.Module):
    """UperNet: pyramid pooling on the deepest level, a feature pyramid over all levels, and their fusion.

    The levels of a plain backbone are rescaled to 1/4, 1/2, 1 and 2 times its stride, by transposed
    convolutions and max pooling.

    Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018; the rescaling: Bao
    et al., "BEiT", ICLR 2022.

    Args:
        backbone: sets the input widths and strides.
        num_classes: logits per cell.
        width: channels throughout (512 in the literature).
        bins: sides of the grids of the pyramid pooling.
        dropout: share of channels dropped before the classifier.
    """

    def __init__(self, backbone: Backbone, num_classes: int, width: int, bins: Sequence[int], dropout: float):
        super().__init__()
        check_at_least("width", width, 1)
        check_share("dropout", dropout, one=False)
        if min(bins, default=1) < 1:
            sides = [max(side, 1) for side in bins]
            raise ConfigError("bins", list(bins), "must be at least 1", suggest=sides)
        self.features = MultiScaleFeatures(backbone)
        widths = self.features.widths
        strides = PLAIN_STRIDES if len(set(self.features.strides)) == 1 else [1] * len(widths)
        self.rescale = nn.ModuleList(map(_rescale, widths, strides))
        self.bins = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _conv(widths[-1], width, 1)) for side in bins
        )
        self.pooled = _conv(widths[-1] + len(bins) * width, width, 3)
        self.lateral = nn.ModuleList(_conv(channels, width, 1) for channels in widths[:-1])
        self.smooth = nn.ModuleList(_conv(width, width, 3) for _ in widths[:-1])
        self.fuse = _conv(len(widths) * width, width, 3)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))

    def extract(self, backbone: Backbone, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the feature maps that `forward` takes."""
        return self.features.extract(backbone, images)

    def pyramid(self, levels: list[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the feature pyramid: maps of falling resolution, each with `width` channels."""
        levels = [rescale(level) for rescale, level in zip(self.rescale, levels, strict=True)]
        deepest = levels[-1]
        pooled = [_resize(pool(deepest), deepest) for pool in self.bins]
        tops = [self.pooled(torch.cat((deepest, *pooled), dim=1))]
        for lateral, level in zip(reversed(self.lateral), reversed(levels[:-1]), strict=True):
            side = lateral(level)
            tops.insert(0, side + _resize(tops[0], side))
        return [*(smooth(top) for smooth, top in zip(self.smooth, tops[:-1], strict=True)), tops[-1]]

    def forward(self, levels: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n y x"]:
        """Return the class logits on the grid of the shallowest level."""
        pyramid = self.pyramid(levels)
        return self.classify(self.fuse(torch.cat([_resize(level, pyramid[0]) for level in pyramid], dim=1)))


class Segmenter(nn.Module):
    """Class logits per pixel, from a copy of a backbone.

    Args:
        backbone: copied, with all parameters of the copy trainable.
        head: builds the head from the backbone and the number of classes.
        num_classes: logits per pixel.
        finetune: train the backbone too; otherwise it stays in evaluation mode without gradients.
    """

    def __init__(self, backbone: Backbone, head: Callable[..., nn.Module], num_classes: int, finetune: bool):
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(finetune)
        self.head: Any = head(self.backbone, num_classes)
        self.finetune = finetune

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        self.backbone.train(mode and self.finetune)
        return self

    def freeze_unused(self, images: Float[Tensor, "b c h w"]) -> None:
        """Freeze the parameters that do not affect the logits, since DDP requires a gradient of the others.

        An example is the final norm of a ViT, which is after the levels of UperNet.
        """
        training = self.training
        self.eval()  # keeps running statistics; a batch of one image suffices
        with torch.enable_grad():
            self(images).sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.train(training)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n h w"]:
        """Return the class logits of normalized images, upsampled bilinearly to their size."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            levels = self.head.extract(self.backbone, images)
        return _resize(self.head(levels).float(), images)


def _conv(channels: int, width: int, side: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, side, padding=side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _rescale(channels: int, stride: float) -> nn.Module:
    """Return a layer that resizes maps by 1 / stride."""

    def up() -> nn.Module:
        return nn.ConvTranspose2d(channels, channels, 2, stride=2)

    if stride == 1 / 4:
        return nn.Sequential(up(), nn.BatchNorm2d(channels), nn.GELU(), up())
    if stride == 1 / 2:
        return up()
    return nn.Identity() if stride == 1 else nn.MaxPool2d(2, ceil_mode=True)  # ceil: at least one cell


def _resize(level: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(level, like.shape[-2:], mode="bilinear", align_corners=False)
