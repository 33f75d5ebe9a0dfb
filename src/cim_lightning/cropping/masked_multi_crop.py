"""Global and local crops, and masks of random blocks on the global crops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.checks import check_divides, check_ordered, check_share
from cim_lightning.cropping.multi_crop import MultiCropper
from cim_lightning.cropping.random_crop import CropParams

MAX_BLOCKS = 16  # blocks of a mask; if they are too few, random patches are added
BLOCK_RATIO = (0.3, 1 / 0.3)  # height / width of a block, log-uniform


class MaskedMultiCrops(NamedTuple):
    """Two global crops of each of b images with masks, and k local crops, unless there are none; in 0..1."""

    global_crops: Float[Tensor, "2 b c s s"]
    local_crops: Float[Tensor, "b k c t t"] | None
    mask: Bool[Tensor, "2 b h w"]  # True: the patch is masked; some crops have no masked patch
    num_masked: int  # masked patches in the batch

    @property
    def num_images(self) -> int:
        return self.global_crops.shape[1]


@dataclass
class MaskedMultiCropper(MultiCropper):
    """Multi-crop with masks made of random blocks on some of the global crops.

    The share of masked patches is stratified: its values are spread evenly over the crops of a batch.

    Source: iBOT (Zhou et al., ICLR 2022), section 3.3 and appendix; blocks of BEiT (Bao et al., ICLR 2022).
    """

    mask_patch_size: int = 16  # side of a patch in pixels; divides the size of the global crops
    mask_ratio: Sequence[float] = (0.1, 0.5)  # share of masked patches in a masked crop, uniform
    mask_prob: float = 0.5  # share of the global crops with a mask, above 0

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.global_crop_1.size
        rule = f"must divide the size of the global crops, {size}, and be below it"
        check_divides("mask_patch_size", self.mask_patch_size, size, rule, parts=2)
        self.mask_ratio = check_ordered("mask_ratio", self.mask_ratio, high=1, suggest=[0.1, 0.5])
        check_share("mask_prob", self.mask_prob, zero=False)
        self.grid = size // self.mask_patch_size

    def sample(self, b: int, view: tuple[int, int], generator: torch.Generator) -> Any:
        crops = super().sample(b, view, generator)
        return crops, self.sample_masks(2 * b, generator).unflatten(0, (2, b))

    def crop(
        self, images: Float[Tensor, "b c h w"], params: tuple[list[CropParams], Bool[Tensor, "2 b g g"]]
    ) -> Any:
        crops, mask = super().crop(images, params[0]), params[1]
        return MaskedMultiCrops(crops.global_crops, crops.local_crops, mask, int(mask.sum()))

    def sample_masks(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n g g"]:
        """Sample the masks of n crops, on the generator's device."""
        device, cells = generator.device, self.grid**2

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        share = (rand(n).argsort() + rand(n)) / n  # one value in each n-th part of 0..1
        low, high = self.mask_ratio
        count = ((low + (high - low) * share / self.mask_prob) * cells).round() * (share < self.mask_prob)
        smallest = max((self.grid // 3) ** 2, 1)
        area = smallest + (count[:, None] - smallest).clamp(min=0) * rand(n, MAX_BLOCKS)
        low, high = (math.log(bound) for bound in BLOCK_RATIO)
        ratio = torch.exp(low + (high - low) * rand(n, MAX_BLOCKS))
        rows, columns = (
            self._interval(side, rand(n, MAX_BLOCKS))
            for side in ((area * ratio).sqrt(), (area / ratio).sqrt())
        )
        inside = (rows[..., :, None] & columns[..., None, :]).flatten(2)
        blocks = torch.arange(MAX_BLOCKS, device=device)[:, None]
        first = torch.where(inside, blocks, MAX_BLOCKS).amin(dim=1)  # the first block with this patch
        order = torch.arange(cells, device=device) / cells
        order = torch.where(rand(n, 1) < 0.5, order, order.flip(0))  # where the last block is cut off
        order = torch.where(first < MAX_BLOCKS, order, rand(n, cells))
        rank = (first + order).argsort(dim=1).argsort(dim=1)
        return (rank < count[:, None]).unflatten(1, (self.grid, self.grid))

    def _interval(
        self, side: Float[Tensor, "n blocks"], position: Float[Tensor, "n blocks"]
    ) -> Bool[Tensor, "n blocks g"]:
        """Return the rows (or columns) of blocks with a side in patches, at a position in 0..1."""
        side = side.round().clamp(1, self.grid)
        first = (position * (self.grid - side + 1)).floor()
        cells = torch.arange(self.grid, device=side.device)
        return (cells >= first[..., None]) & (cells < (first + side)[..., None])
