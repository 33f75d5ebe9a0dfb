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
from cim_lightning.image_random import ImageRandom

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

    The share of masked patches is stratified: those of the two global crops of an image are one value in each
    half of the distribution. With mask_prob=0.5, one of the two has a mask.

    Source: iBOT (Zhou et al., ICLR 2022), section 3.3 and appendix; blocks of BEiT (Bao et al., ICLR 2022).
    """

    mask_patch_size: int = 16  # side of a patch in pixels; divides the size of the global crops
    mask_ratio: Sequence[float] = (0.1, 0.5)  # share of masked patches in a masked crop, uniform
    mask_prob: float = 0.5  # share of the global crops with a mask, above 0

    dynamic_shapes = True  # of the masked patches, whose number the host reads

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.global_crop_1.size
        rule = f"must divide the size of the global crops, {size}, and be below it"
        check_divides("mask_patch_size", self.mask_patch_size, size, rule, parts=2)
        self.mask_ratio = check_ordered("mask_ratio", self.mask_ratio, high=1, suggest=[0.1, 0.5])
        check_share("mask_prob", self.mask_prob, zero=False)
        self.grid = size // self.mask_patch_size

    def sample(self, view: tuple[int, int], random: ImageRandom) -> Any:
        return super().sample(view, random), self.sample_masks(random)

    def crop(
        self, images: Float[Tensor, "b c h w"], params: tuple[list[CropParams], Bool[Tensor, "2 b g g"]]
    ) -> Any:
        crops, mask = super().crop(images, params[0]), params[1]
        return MaskedMultiCrops(crops.global_crops, crops.local_crops, mask, int(mask.sum()))

    def sample_masks(self, random: ImageRandom) -> Bool[Tensor, "2 b g g"]:
        """Sample the masks of the two global crops of each image."""
        device, cells = random.device, self.grid**2

        def rand(*shape: int) -> Tensor:  # n = 2 * b rows
            return random.uniform(2, *shape).transpose(0, 1).flatten(0, 1)

        share = (random.permutation(2) + random.uniform(2)) / 2  # one value in each half of 0..1
        share = share.T.flatten()
        low, high = self.mask_ratio
        count = ((low + (high - low) * share / self.mask_prob) * cells).round() * (share < self.mask_prob)
        smallest = max((self.grid // 3) ** 2, 1)
        area = smallest + (count[:, None] - smallest).clamp(min=0) * rand(MAX_BLOCKS)
        low, high = (math.log(bound) for bound in BLOCK_RATIO)
        ratio = torch.exp(low + (high - low) * rand(MAX_BLOCKS))
        rows, columns = (
            self._interval(side, rand(MAX_BLOCKS)) for side in ((area * ratio).sqrt(), (area / ratio).sqrt())
        )
        inside = (rows[..., :, None] & columns[..., None, :]).flatten(2)
        blocks = torch.arange(MAX_BLOCKS, device=device)[:, None]
        first = torch.where(inside, blocks, MAX_BLOCKS).amin(dim=1)  # the first block with this patch
        order = torch.arange(cells, device=device) / cells
        order = torch.where(rand(1) < 0.5, order, order.flip(0))  # where the last block is cut off
        order = torch.where(first < MAX_BLOCKS, order, rand(cells))
        rank = (first + order).argsort(dim=1, stable=True).argsort(dim=1)
        return (rank < count[:, None]).view(2, random.num_images, self.grid, self.grid)

    def _interval(
        self, side: Float[Tensor, "n blocks"], position: Float[Tensor, "n blocks"]
    ) -> Bool[Tensor, "n blocks g"]:
        """Return the rows (or columns) of blocks with a side in patches, at a position in 0..1."""
        side = side.round().clamp(1, self.grid)
        first = (position * (self.grid - side + 1)).floor()
        cells = torch.arange(self.grid, device=side.device)
        return (cells >= first[..., None]) & (cells < (first + side)[..., None])
