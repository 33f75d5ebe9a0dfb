"""Contexts with random masks, and exemplars of the same views, for masked correlational modeling."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from cim_lightning.cropping.cropper import Cropper
from cim_lightning.cropping.exemplars import Crops, ExemplarCropper
from cim_lightning.cropping.masking import MaskedCropper
from cim_lightning.image_random import ImageRandom


class MaskedCrops(NamedTuple):
    """Contexts and exemplars in 0..1, and a mask of each context with the same number of masked cells."""

    crops: Crops
    mask: Bool[Tensor, "b h w"]  # True: the cell of the context is masked; a cell has s / h x s / w pixels
    num_masked: int  # masked cells per context

    @property
    def num_images(self) -> int:
        return self.crops.num_images


@dataclass
class MaskedExemplarCropper(Cropper):
    """Crops exemplars from each view, and masks the same number of random cells in each context.

    Args:
        exemplars: crops contexts and exemplars.
        mask_patch_size: side of a cell in pixels; divides the side of the context and is below it.
        mask_ratio: share of masked cells, above 0 and below 1; rounded up to whole cells.
    """

    exemplars: ExemplarCropper = field(default_factory=lambda: ExemplarCropper(num_exemplars=1))
    mask_patch_size: int = 16
    mask_ratio: float = 0.75

    def __post_init__(self) -> None:
        self.masking = MaskedCropper(self.exemplars.context_size, self.mask_patch_size, self.mask_ratio)

    def sample(self, view: tuple[int, int], random: ImageRandom) -> Any:
        return self.exemplars.sample(view, random), self.masking.sample(view, random)

    def crop(self, images: Float[Tensor, "b c h w"], params: Any) -> MaskedCrops:
        exemplars, mask = params
        return MaskedCrops(self.exemplars.crop(images, exemplars), mask, self.masking.num_masked)
