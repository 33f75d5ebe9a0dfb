"""The images that an exported backbone wants, and the fixed ones that it is compared on."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError


class Images(NamedTuple):
    """What a backbone was trained on: squares of `size` pixels, values 0..1, normalized.

    normalize: the configuration of the normalization, with a mean and a std a channel; None for none.
    """

    channels: int
    size: int
    normalize: dict[str, Any] | None

    @property
    def mean(self) -> list[float]:
        """Of each channel. Raises ConfigError if the normalization is not one by mean and deviation."""
        return self._by_channel("mean", 0.0)

    @property
    def std(self) -> list[float]:
        """Of each channel. Raises ConfigError if the normalization is not one by mean and deviation."""
        return self._by_channel("std", 1.0)

    def fixed(self) -> Float[Tensor, "b c s s"]:
        """Three images of uniform noise, values 0..1, the same every time."""
        noise = torch.Generator().manual_seed(0)
        return torch.rand(3, self.channels, self.size, self.size, generator=noise)

    def _by_channel(self, name: str, none: float) -> list[float]:
        said: Any = none if self.normalize is None else self.normalize.get(name)
        values = said if isinstance(said, list) else [said]
        values = values * self.channels if len(values) == 1 else values
        if len(values) != self.channels or not all(isinstance(value, int | float) for value in values):
            raise ConfigError(
                f"cropping.normalize={self.normalize}: an export wants a {name} for each of the "
                f"{self.channels} channels; try kornia.enhance.Normalize with both"
            )
        return [float(value) for value in values]


def normalized(
    images: Float[Tensor, "b c h w"], mean: list[float], std: list[float]
) -> Float[Tensor, "b c h w"]:
    """Images of 0..1 less the mean, divided by the deviation, of each channel."""
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]
