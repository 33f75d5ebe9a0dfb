"""Resized views with a context block and target blocks of patches, for prediction in feature space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cim_lightning.checks import check_at_least, check_divides, check_ordered, check_within
from cim_lightning.cropping.resize import ResizeCropper
from cim_lightning.errors import ConfigError
from cim_lightning.image_random import ImageRandom

TRIES = 10  # placements of the blocks per image; the first with enough context is used


class BlockMaskedImages(NamedTuple):
    """Images in 0..1, and indices of their context and target patches in row-major order of the grid."""

    images: Float[Tensor, "b c s s"]
    context: Int64[Tensor, "b v"]
    targets: Int64[Tensor, "b m t"]  # m blocks of t patches each
    grid: int  # patches per side of an image

    @property
    def num_images(self) -> int:
        return len(self.images)


class Blocks(NamedTuple):
    """Sampled patches of b images; see BlockMaskedImages."""

    context: Int64[Tensor, "b v"]
    targets: Int64[Tensor, "b m t"]


@dataclass
class MultiBlockCropper(ResizeCropper):
    """Resizes views, and samples target blocks and a context block without the patches of the targets.

    All images of a batch have target blocks of one size, and one number of context patches: the smallest of
    the batch. Images with more context use a random part of it. These sizes are a function of the set of the
    images in the batch; the positions of the blocks are a function of the image and of the sizes.

    Source: I-JEPA (Assran et al., CVPR 2023), section 3 and appendix A.
    """

    mask_patch_size: int = 16  # side of a patch in pixels; divides `size` and is below it
    num_targets: int = 4  # target blocks per image, which can overlap
    target_scale: Sequence[float] = (0.15, 0.2)  # share of the patches in a target block, uniform
    target_ratio: Sequence[float] = (0.75, 1.5)  # height / width of a target block, uniform
    context_scale: Sequence[float] = (0.85, 1.0)  # share of the patches in the square context block, uniform
    min_context: int = 10  # context patches that remain without those of the targets, if possible

    dynamic_shapes = True

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"must divide size={self.size} and be below it"
        check_divides("mask_patch_size", self.mask_patch_size, self.size, rule, parts=2)
        check_at_least("num_targets", self.num_targets, 1)
        self.target_scale = check_ordered("target_scale", self.target_scale, high=1, suggest=[0.15, 0.2])
        self.target_ratio = check_ordered("target_ratio", self.target_ratio, suggest=[0.75, 1.5])
        self.context_scale = check_ordered("context_scale", self.context_scale, high=1, suggest=[0.85, 1.0])
        self.grid = self.size // self.mask_patch_size
        check_within("min_context", self.min_context, 1, self.grid**2)

    def sample(self, view: tuple[int, int], random: ImageRandom) -> Blocks:
        scale, ratio, context_scale = random.of_batch().uniform(3)[0].tolist()
        size = self._block_size(_between(self.target_scale, scale), _between(self.target_ratio, ratio))
        context_size = self._block_size(_between(self.context_scale, context_scale), 1)
        targets = self._place(size, (TRIES, self.num_targets), random)
        context = self._place(context_size, (TRIES,), random) & ~targets.any(dim=2)
        enough = context.sum(dim=-1).clamp(max=self.min_context)
        chosen = (
            torch.arange(random.num_images, device=enough.device),
            enough.argmax(dim=1),
        )  # the first of the largest
        context, targets = context[chosen], targets[chosen]
        num_context = int(context.sum(dim=-1).min())
        if num_context == 0:
            rule = f"the target blocks cover all of {self.grid}x{self.grid} patches"
            raise ConfigError("target_scale", list(self.target_scale), rule, hint="use smaller blocks")
        noise = random.uniform(self.grid**2) + context  # patches of the context come first
        order = noise.argsort(dim=1, descending=True, stable=True)
        visible = order[:, :num_context].sort(dim=1).values
        return Blocks(visible, _indices(targets, math.prod(size)))

    def crop(self, images: Float[Tensor, "b c h w"], params: Blocks) -> Any:
        return BlockMaskedImages(super().crop(images, None).images, *params, self.grid)

    def _block_size(self, scale: float, ratio: float) -> tuple[int, int]:
        """Return the (rows, columns) of a block with a share of the patches and a ratio height / width."""
        sides = (self.grid * math.sqrt(scale * ratio), self.grid * math.sqrt(scale / ratio))
        return min(max(round(sides[0]), 1), self.grid), min(max(round(sides[1]), 1), self.grid)

    def _place(
        self, size: tuple[int, int], shape: tuple[int, ...], random: ImageRandom
    ) -> Bool[Tensor, "b ... n"]:
        """Return masks "b *shape n" over the patches, each with one block at a random position."""
        cells = torch.arange(self.grid, device=random.device)
        inside = []
        for side in size:
            first = (random.uniform(*shape, 1) * (self.grid - side + 1)).long()
            inside.append((cells >= first) & (cells < first + side))
        return (inside[0][..., :, None] & inside[1][..., None, :]).flatten(-2)


def _between(bounds: Sequence[float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _indices(mask: Bool[Tensor, "*b n"], count: int) -> Int64[Tensor, "*b t"]:
    """Return the indices of the cells of masks with `count` cells each, in increasing order."""
    return mask.int().argsort(dim=-1, descending=True, stable=True)[..., :count]
