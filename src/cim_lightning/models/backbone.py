"""The contract of a backbone: images in, a vector and a feature map per image out."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.layer_decay import layer_decay_groups
from cim_lightning.models.loaded_weights import LoadedWeights
from cim_lightning.models.normalization import normalization

FEATURES = ("mean", "pooled")  # names of the vectors of Features


class Features(NamedTuple):
    """Output of a backbone, for any architecture and input size."""

    pooled: Float[Tensor, "b d"]  # pooling of the architecture: a class token if there is one, else the mean
    grid: Float[Tensor, "b d h w"]

    def get(self, features: str) -> Float[Tensor, "b d"]:
        """Return the vectors named "mean", over the grid, or "pooled"."""
        return self.grid.mean(dim=(2, 3)) if features == "mean" else self.pooled


class Level(NamedTuple):
    """A feature map inside a backbone: its channels, and the pixels per side of a cell."""

    width: int
    stride: int


class Backbone(nn.Module, ABC):
    """Base class of all backbones. Everything outside of models/ uses the methods of this class only.

    A subclass implements `compute_features`. This makes it usable for methods that need the output only.
    The other methods have defaults for an architecture of which nothing else is known. Override them to allow
    more: `levels` and `intermediates` (features of several depths), `blocks` (layer-wise learning rates),
    `patch_embed` (mask tokens), `forward_visible` with `skips_patches` (encoders of the visible patches),
    `size_multiple` (check of the image size), and `with_drop_path`.

    Args:
        name: of the architecture, for messages and results.
        dim: width d of the features.
        in_channels: channels of the images.
        patch_size: pixels per side of a cell of the grid. For a ResNet, it is the stride of 32.
        mean, std: of each channel, for images in 0..1; None: those of ImageNet, for 1 or 3 channels; empty:
            refused, so that a recipe can require them.

    Raises:
        ConfigError: the number of means or standard deviations is not that of the channels.
    """

    num_prefix_tokens: int = 0  # class and register tokens, which are not in the grid
    size_multiple: int = 1  # pixels of which height and width of the images must be a multiple
    image_size: int | None = None  # side of the images in training, in pixels; None: unknown
    loaded_weights: LoadedWeights | None = None  # origin of the weights; None: initialized
    skips_patches: bool = False  # whether there is a `forward_visible`
    mean: Float[Tensor, "c 1 1"]
    std: Float[Tensor, "c 1 1"]

    def __init__(
        self,
        name: str,
        dim: int,
        in_channels: int,
        patch_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ):
        super().__init__()
        self.name, self.dim, self.in_channels, self.patch_size = name, dim, in_channels, patch_size
        # Plain numbers for files: the buffers are in fp32, which has no 0.485.
        self.normalization = normalization(in_channels, mean, std)
        for parameter, values in self.normalization.items():
            buffer = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(parameter, buffer, persistent=False)

    @abstractmethod
    def compute_features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Return the features of normalized images, whose size and channels are checked."""

    def normalize(self, images: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Return the input of the backbone for images in 0..1."""
        return (images - self.mean) / self.std

    def forward(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Return the features of normalized images, of any size that the architecture accepts."""
        self.check_images(images)
        try:
            return self.compute_features(images)
        except RuntimeError as error:  # a kernel larger than the feature map
            smaller = min(images.shape[-2:])
            if smaller >= self.patch_size:
                raise
            rule = f"too small for {self.name}"
            raise ConfigError("size", smaller, rule, suggest=self.patch_size) from error

    def check_images(self, images: Float[Tensor, "b c h w"]) -> None:
        """Raise ConfigError if the images have another number of channels, or a size that does not fit."""
        self.check_channels(images.shape[1])
        self.check_size((images.shape[-2], images.shape[-1]))

    def check_channels(self, channels: int) -> None:
        """Raise ConfigError if images with this number of channels do not fit."""
        if channels != self.in_channels:
            rule = f"the images have {channels} channels"
            raise ConfigError("in_channels", self.in_channels, rule, suggest=channels)

    def check_size(self, size: tuple[int, int], parameter: str = "size") -> None:
        """Raise ConfigError, naming a parameter, if height or width is not a multiple of `size_multiple`."""
        multiple = self.size_multiple
        for side in size:
            if side % multiple:
                rule = f"must be whole patches of {multiple} pixels for {self.name}"
                raise ConfigError(parameter, side, rule, suggest=max(round(side / multiple), 1) * multiple)

    @property
    def levels(self) -> list[Level]:
        """The feature maps that `intermediates` can return, from shallow to deep."""
        return [Level(self.dim, self.patch_size)]

    def intermediates(
        self, images: Float[Tensor, "b c h w"], indices: Sequence[int], norm: bool = False
    ) -> list[Features]:
        """Return the features after some levels.

        Args:
            images: normalized.
            indices: of `levels`, in any order; negative indices count from the end.
            norm: apply the final norm of the architecture to each level, if it has one.
        """
        output = self(images)
        return [output for _ in self.level_indices(indices)]

    def level_indices(self, indices: Sequence[int]) -> list[int]:
        """Return the indices of levels as numbers from 0, or raise IndexError."""
        return [range(len(self.levels))[index] for index in indices]

    def blocks(self) -> list[nn.Module]:
        """Return the residual blocks from shallow to deep, in a ViT its transformer blocks."""
        return []

    def param_groups(self, lr: float, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
        """Return groups of the trainable parameters for an optimizer, with "lr" and "weight_decay" in each.

        Biases, norms, class tokens and position tables have no weight decay. The last layer has the learning
        rate lr * layer_decay, the layer below lr * layer_decay ** 2, and so on. By default, each block is a
        layer. Parameters before the first block are the lowest layer; other parameters outside of the blocks
        belong to the block that is registered before them.

        Source: Bao et al., "BEiT", ICLR 2022.
        """
        return layer_decay_groups(self, self.blocks(), lr, weight_decay, layer_decay)

    @property
    def patch_embed(self) -> nn.Module | None:
        """The layer whose output are the patch tokens, with a convolution `proj` as in timm; None if none."""
        return None

    def forward_visible(
        self, images: Float[Tensor, "b c h w"], visible: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b n d"]:
        """Return the final prefix tokens (class, registers) and the tokens of the visible patches.

        Args:
            images: normalized.
            visible: indices of the visible patches of each image, in row-major order of the grid.

        Raises:
            ConfigError: see `check_skips_patches`.
        """
        self.check_skips_patches()
        raise NotImplementedError

    def check_skips_patches(self) -> None:
        """Raise ConfigError if the architecture cannot encode the visible patches only."""
        if not self.skips_patches:
            hint = "try a vision transformer, or the method simmim"
            raise ConfigError("name", self.name, "is not a ViT, so it cannot skip patches", hint=hint)

    def with_drop_path(self, rate: float) -> "Backbone":
        """Return a copy with the same weights and another drop path rate.

        Args:
            rate: drop probability of the last residual branch, 0..1; it rises linearly from 0 with the depth.

        Raises:
            ConfigError: the architecture has no drop path.
        """
        if rate:
            rule = f"{self.name} has no residual branch to drop"
            raise ConfigError("drop_path", rate, rule, suggest=0)
        return copy.deepcopy(self)
