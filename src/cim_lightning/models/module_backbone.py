"""Any module that returns a feature map, as a backbone."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cim_lightning.checks import did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone, Features, Level

PROBE_CELLS = 7  # per side of the image that measures the levels: 224 pixels for a stride of 32


class ModuleBackbone(Backbone):
    """A module of torchvision, or your own.

    Args:
        module: maps normalized images "b c h w" to a map "b d h w", or to a pair of a vector "b d" and the
            map. Without a vector, the features are pooled by the mean.
        dim: width d of the map.
        patch_size: pixels per cell of the map.
        name: for messages and results; by default the class of the module.
        in_channels: channels of the images.
        mean, std: of each channel, for images in 0..1.
        blocks: names of the submodules that are blocks or stages, from shallow to deep, as in
            `module.named_modules()`. They define the layers of a layer-wise learning rate. For features of
            several depths, each must return a map.
        size_multiple: pixels of which height and width of the images must be a multiple.

    Raises:
        ConfigError: the module has no such block, or an argument does not fit the output.
    """

    def __init__(
        self,
        module: nn.Module,
        dim: int,
        patch_size: int,
        name: str | None = None,
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        blocks: Sequence[str] = (),
        size_multiple: int = 1,
    ):
        super().__init__(name or type(module).__name__, dim, in_channels, patch_size, mean, std)
        self.module, self.block_names, self.size_multiple = module, tuple(blocks), size_multiple
        known = dict(module.named_modules())
        for block in self.block_names:
            if block not in known:
                hint = did_you_mean(block, filter(None, known))
                raise ConfigError("blocks", block, f"is not a submodule of {self.name}", hint=hint)

    def compute_features(self, images: Float[Tensor, "b c h w"]) -> Features:
        output: Any = self.module(images)
        pooled, grid = output if isinstance(output, tuple) else (None, output)
        if not _is_map(grid):
            raise ConfigError("module", self.name, "must return a map b d h w, or a pair (pooled, map)")
        pooled = grid.mean(dim=(2, 3)) if pooled is None else pooled
        for part, width in (("map", grid.shape[1]), ("vector", pooled.shape[1])):
            if width != self.dim:
                rule = f"the {part} of {self.name} has another width"
                raise ConfigError("dim", self.dim, rule, suggest=width)
        for side, cells in zip(images.shape[-2:], grid.shape[-2:], strict=True):
            if abs(cells * self.patch_size - side) >= self.patch_size:
                rule = f"{self.name} has {cells} cells for {side} pixels"
                raise ConfigError("patch_size", self.patch_size, rule, suggest=max(round(side / cells), 1))
        return Features(pooled, grid)

    def blocks(self) -> list[nn.Module]:
        return [self.module.get_submodule(name) for name in self.block_names]

    @property
    def levels(self) -> list[Level]:
        return list(self._measured_levels) if self.block_names else super().levels

    @functools.cached_property
    def _measured_levels(self) -> list[Level]:
        """Widths and strides of the blocks' outputs for one black image."""
        network = copy.deepcopy(self).eval()  # keeps running statistics and modes
        side = PROBE_CELLS * self.patch_size
        with torch.no_grad():
            images = self.mean.new_zeros(1, self.in_channels, side, side)
            maps, _ = network._run(images)
        return [Level(grid.shape[1], round(side / grid.shape[-1])) for grid in maps]

    def intermediates(
        self, images: Float[Tensor, "b c h w"], indices: Sequence[int], norm: bool = False
    ) -> list[Features]:
        """Return the features after some blocks. With `norm`, the last one is the output of the module."""
        if not self.block_names:
            return super().intermediates(images, indices, norm)
        maps, output = self._run(images)
        features = [Features(grid.mean(dim=(2, 3)), grid) for grid in maps]
        if norm:
            features[-1] = output
        return [features[i] for i in self.level_indices(indices)]

    def _run(self, images: Float[Tensor, "b c h w"]) -> tuple[list[Tensor], Features]:
        """Return the outputs of all blocks, and of the module."""
        outputs: dict[int, Tensor] = {}
        hooks = [
            block.register_forward_hook(lambda _, __, output, i=i: outputs.update({i: output}))
            for i, block in enumerate(self.blocks())
        ]
        try:
            output = self(images)
        finally:
            for hook in hooks:
                hook.remove()
        for i, name in enumerate(self.block_names):
            if not _is_map(outputs.get(i)):
                raise ConfigError("blocks", name, f"returns no map b d h w in {self.name}")
        return [outputs[i] for i in range(len(self.block_names))], output


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4
