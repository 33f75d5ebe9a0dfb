"""Augmentations of kornia for crops, in place of `Appearance`."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from kornia.augmentation import AugmentationSequential, GeometricAugmentationBase2D
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.image_random import FLOAT_BITS, ImageRandom
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


class KorniaAppearance:
    """Applies augmentations of kornia in sequence, with parameters per crop.

    It is slower than `Appearance`, and waits for the device. kornia draws its random numbers for a whole
    batch, from the global stream. The seed of this stream is a function of the images in the batch, so a run
    that resumes with the same batches is repeated exactly. In another batch, an image has other colors.

    Args:
        augmentations: modules of kornia.augmentation by name, in order; None: left out. They must keep the
            size of the crops.
    """

    def __init__(self, augmentations: Mapping[str, Any]):
        members = {name: member for name, member in augmentations.items() if member is not None}
        if not members:
            raise ConfigError("appearance", {}, "needs an augmentation", hint="try appearance=null")
        for name, member in members.items():
            if not isinstance(member, nn.Module):
                rule = "must be an augmentation of kornia.augmentation"
                raise ConfigError("augmentations", name, rule, hint="try kornia.augmentation.ColorJitter")
            if isinstance(member, GeometricAugmentationBase2D):
                log.warning("appearance: %s moves pixels, and boxes and correlation maps do not follow", name)
        self.names = list(members)
        self.sequence = AugmentationSequential(*members.values(), same_on_batch=False)

    def sample(self, k: int, random: ImageRandom) -> Int64[Tensor, "2"]:
        """Return the seed of the random numbers of a batch, which depends on the set of its images."""
        return (random.uniform(2) * 2**FLOAT_BITS).long().sum(dim=0)

    @torch.compiler.disable
    def apply(
        self, exemplars: Float[Tensor, "n c e e"], colors: Int64[Tensor, "2"]
    ) -> Float[Tensor, "n c e e"]:
        """Return the augmented crops, clipped to 0..1.

        Raises:
            ConfigError: an augmentation does not fit the crops, such as their number of channels or size.
        """
        with fork_rng(*colors.tolist()):
            try:
                changed = self.sequence(exemplars)
            except (torch.AcceleratorError, torch.OutOfMemoryError):
                raise
            except (RuntimeError, TypeError, ValueError) as error:
                raise ConfigError("augmentations", self.names, str(error).partition("\n")[0]) from error
        if changed.shape != exemplars.shape:
            sizes = "x".join(map(str, exemplars.shape[1:])), "x".join(map(str, changed.shape[1:]))
            raise ConfigError(
                "augmentations", self.names, f"must keep the size {sizes[0]}, not make {sizes[1]}"
            )
        return changed.clamp(0, 1)
