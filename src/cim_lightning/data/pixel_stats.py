"""Mean, standard deviation and range of the pixels of a data set, per channel."""

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

PerChannel = Float64[np.ndarray, " c"]


@dataclass
class PixelStats:
    """Statistics of some images, whose values are in 0..1.

    Add two of them for the statistics of all their images, in any order.
    """

    images: int
    pixels: int
    mean: PerChannel
    squares: PerChannel  # sum of the squared differences to the mean
    lowest: PerChannel
    highest: PerChannel
    num_black: PerChannel  # pixels of the value 0, and
    num_white: PerChannel  # of the value 1: clipped, if there are many

    @classmethod
    def of_image(cls, image: Float[Tensor, "c h w"]) -> "PixelStats":
        """Return the statistics of one image."""
        values = image.double().flatten(1)
        mean = values.mean(dim=1, keepdim=True)
        lowest, highest = values.aminmax(dim=1)
        squares = (values - mean).square().sum(dim=1)
        counts = ((values == value).sum(dim=1).double() for value in (0, 1))
        parts = (part.numpy() for part in (mean[:, 0], squares, lowest, highest, *counts))
        return cls(1, values.shape[1], *parts)

    def __add__(self, other: "PixelStats") -> "PixelStats":
        pixels = self.pixels + other.pixels
        shift = other.mean - self.mean
        # Source: Chan, Golub and LeVeque, 1979: exact, unlike the difference of two large sums.
        return PixelStats(
            self.images + other.images,
            pixels,
            self.mean + shift * (other.pixels / pixels),
            self.squares + other.squares + shift**2 * (self.pixels * (other.pixels / pixels)),
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
            self.num_black + other.num_black,
            self.num_white + other.num_white,
        )

    def std(self) -> PerChannel:
        """Return the standard deviation of all pixels, without Bessel's correction."""
        return np.sqrt(self.squares / self.pixels)

    def columns(self) -> dict[str, list[float]]:
        """Return the values of each channel, by name; shares of pixels in 0..1."""
        columns = {
            "mean": self.mean,
            "std": self.std(),
            "lowest": self.lowest,
            "highest": self.highest,
            "share_black": self.num_black / self.pixels,
            "share_white": self.num_white / self.pixels,
        }
        return {name: values.tolist() for name, values in columns.items()}


def pixel_stats(batches: Iterable[Float[Tensor, "_ c h w"]]) -> PixelStats:
    """Return the statistics of all images of at least one batch; values are in 0..1."""
    found = (PixelStats.of_image(image) for batch in batches for image in batch)
    return functools.reduce(operator.add, found)
