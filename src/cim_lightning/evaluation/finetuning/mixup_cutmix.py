"""What training on labels does to a batch on the device: regions erased, images and labels mixed."""

from jaxtyping import Float, Int64
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from cim_lightning.errors import ConfigError


class MixupCutmix:
    """Random erasing, then mixup or CutMix, each for half of the batches where both are on.

    Args:
        erasing: probability that an image loses a rectangle to noise (Zhong et al., AAAI 2020), 0..1.
        mixup, cutmix: parameters of the Beta distributions that shares are drawn from (Zhang et al., ICLR
            2018; Yun et al., ICCV 2019); 0 switches one off.
        smoothing: share of a label that is spread over all classes, 0 to below 1.

    Raises:
        ConfigError: a setting is outside its limits.
    """

    def __init__(self, erasing: float, mixup: float, cutmix: float, smoothing: float):
        if not 0 <= erasing <= 1:
            raise ConfigError(f"mixing.erasing={erasing}: a probability, 0..1; try {min(max(erasing, 0), 1)}")
        if not 0 <= smoothing < 1:
            raise ConfigError(f"mixing.smoothing={smoothing}: 0 to below 1; try 0.1")
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if value < 0:
                raise ConfigError(f"mixing.{name}={value}: 0 or more; try 0, which is off")
        self.erasing, self.mixup, self.cutmix, self.smoothing = erasing, mixup, cutmix, smoothing

    def __call__(
        self, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"], classes: int
    ) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m n"]]:
        """Normalized images and the share of each class in them.

        An image is mixed with the one that mirrors it in the batch, so of an odd batch the last is left out.
        timm draws from the global streams, which whoever calls has set.
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
