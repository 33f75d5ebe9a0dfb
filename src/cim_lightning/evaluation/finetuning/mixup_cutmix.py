"""Random erasing, mixup and CutMix of a batch, on the device."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from cim_lightning.checks import check_at_least, check_share


@dataclass
class MixupCutmix:
    """Apply random erasing, then mixup or CutMix. If both are on, each applies to half of the batches."""

    erasing: float  # probability that a rectangle of an image becomes noise (Zhong et al., AAAI 2020)
    mixup: float  # alpha of the Beta distribution of the mixing weight; 0: off (Zhang et al., ICLR 2018)
    cutmix: float  # alpha of CutMix (Yun et al., ICCV 2019); 0: off
    smoothing: float  # label smoothing, 0 to below 1

    def __post_init__(self) -> None:
        check_share("erasing", self.erasing)
        check_at_least("mixup", self.mixup, 0)
        check_at_least("cutmix", self.cutmix, 0)
        check_share("smoothing", self.smoothing, one=False)

    def __call__(
        self, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"], classes: int
    ) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m n"]]:
        """Return the augmented normalized images and their soft labels.

        timm mixes image i with image b - 1 - i, so mixing drops the last image of an odd batch. Random
        numbers come from the global generators.
        """
        mixes = self.mixup > 0 or self.cutmix > 0
        even = len(images) - (len(images) % 2 if mixes else 0)
        images, labels = images[:even].clone(), labels[:even]
        if self.erasing:
            images = RandomErasing(self.erasing, mode="pixel", device=str(images.device))(images)
        if not mixes:
            return images, mixup_target(labels, classes, smoothing=self.smoothing)
        mix = Mixup(self.mixup, self.cutmix, label_smoothing=self.smoothing, num_classes=classes)
        return mix(images, labels)
