"""The Recoloring protocol: random changes of the pixels of crops."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from cim_lightning.image_random import ImageRandom


@runtime_checkable
class Recoloring(Protocol):
    """Changes the pixels of crops, but not their size: `Appearance`, or `KorniaAppearance`."""

    def sample(self, k: int, random: ImageRandom) -> Any:
        """Sample parameters for k crops of each image: n = b * k."""
        ...

    def apply(self, exemplars: Float[Tensor, "n c e e"], colors: Any) -> Float[Tensor, "n c e e"]:
        """Return the changed crops, which are in 0..1, for sampled parameters."""
        ...
