"""Input of an exported backbone: size, channels, normalization."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError


class InputSpec(NamedTuple):
    """Square images in 0..1 that a normalization maps to the backbone's input.

    Args:
        channels: of the images.
        size: side of the images in pixels.
        normalize: configuration of the normalization, with `mean` and `std`; None: no normalization.
    """

    channels: int
    size: int
    normalize: dict[str, Any] | None

    @property
    def mean(self) -> list[float]:
        """Mean per channel."""
        return self._per_channel("mean", 0.0)

    @property
    def std(self) -> list[float]:
        """Standard deviation per channel."""
        return self._per_channel("std", 1.0)

    def example_images(self) -> Float[Tensor, "b c s s"]:
        """Return three images of uniform noise in 0..1, the same on each call."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(3, self.channels, self.size, self.size, generator=generator)

    def _per_channel(self, name: str, default: float) -> list[float]:
        found: Any = default if self.normalize is None else self.normalize.get(name)
        values = found if isinstance(found, list) else [found]
        values = values * self.channels if len(values) == 1 else values
        if len(values) != self.channels or not all(isinstance(value, int | float) for value in values):
            rule = f"an export needs a {name} for each of the {self.channels} channels"
            raise ConfigError(
                "normalize", self.normalize, rule, hint="try kornia.enhance.Normalize with both"
            )
        return [float(value) for value in values]
