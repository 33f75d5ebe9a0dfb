"""Color augmentation per exemplar: color jitter, grayscale, blur, solarize.

Brightness, contrast, saturation, hue and grayscale are affine in color. Their composition, in a random order
for each exemplar, is one 3 x 4 matrix and one pass over the pixels. Two things differ from the usual chain
of operations: values are clipped once, after the whole jitter, and hue rotates colors about the gray axis of
RGB. The direction is that of HSV, from red to yellow. A turn of 0.1 changes the hue in HSV by 0.094 to 0.105.
The rotation keeps the mean of the channels, where HSV keeps the largest channel.

Images without three channels have no colors: saturation, hue and grayscale are skipped, and contrast scales
each channel about its own mean.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cim_lightning.checks import check_ordered, check_share, check_within
from cim_lightning.cropping.blur import gaussian_blur
from cim_lightning.cropping.chunks import map_chunks
from cim_lightning.cropping.constants import constant
from cim_lightning.image_random import ImageRandom

log = logging.getLogger(__name__)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in every image library
IDENTITY_SIGMA = 1e-3  # pixels; the weights of all neighbors underflow to 0, so the blur is the identity
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # indices in `ColorParams.order`


@dataclass(frozen=True)
class ColorParams:
    """Sampled parameters of n exemplars. An operation that is off has its neutral value."""

    brightness: Float[Tensor, " n"]  # factor, 1 is neutral
    contrast: Float[Tensor, " n"]  # factor about the mean luma of the exemplar, 1 is neutral
    saturation: Float[Tensor, " n"]  # factor, 1 is neutral, 0 is gray
    hue: Float[Tensor, " n"]  # turns, -0.5..0.5, 0 is neutral
    order: Int[Tensor, "n 4"]  # order of the four operations above, as their indices 0..3
    grayscale: Bool[Tensor, " n"]
    sigma: Float[Tensor, " n"]  # of the blur, in pixels
    solarize: Bool[Tensor, " n"]

    def __getitem__(self, exemplars: slice) -> "ColorParams":
        """Return the parameters of a slice of the exemplars."""
        return ColorParams(*(getattr(self, field.name)[exemplars] for field in dataclasses.fields(self)))


@dataclass(frozen=True)
class Appearance:
    """Color augmentation. The defaults are the paper's values (section 3.1)."""

    brightness: float = 0.4  # largest change x, 0..1; the factor is uniform in 1 - x..1 + x
    contrast: float = 0.4  # like brightness
    saturation: float = 0.2  # like brightness
    hue: float = 0.1  # largest rotation in turns, 0..0.5
    jitter_prob: float = 0.8  # probability of the color jitter, which is the four above together
    grayscale: float = 0.2  # probability
    blur: float = 0.5  # probability
    blur_sigma: Sequence[float] = (0.1, 2.0)  # smallest and largest standard deviation in pixels
    solarize: float = 0.2  # probability

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "jitter_prob", "grayscale", "blur", "solarize"):
            check_share(name, getattr(self, name))
        check_within("hue", self.hue, 0, 0.5)
        check_ordered("blur_sigma", self.blur_sigma, suggest=[0.1, 2.0])

    def sample(self, k: int, random: ImageRandom) -> ColorParams:
        """Sample parameters for k exemplars of each image: n = b * k."""

        def bernoulli(probability: float) -> Tensor:
            return random.bernoulli(probability, k).flatten()

        def uniform(low: float, high: float, neutral: float, active: Tensor) -> Tensor:
            return torch.where(active, random.uniform(k, low=low, high=high).flatten(), neutral)

        jitter = bernoulli(self.jitter_prob)
        return ColorParams(
            brightness=uniform(1 - self.brightness, 1 + self.brightness, 1, jitter),
            contrast=uniform(1 - self.contrast, 1 + self.contrast, 1, jitter),
            saturation=uniform(1 - self.saturation, 1 + self.saturation, 1, jitter),
            hue=uniform(-self.hue, self.hue, 0, jitter),
            order=random.permutation(k, 4).flatten(0, 1),
            grayscale=bernoulli(self.grayscale),
            sigma=uniform(*self.blur_sigma, neutral=IDENTITY_SIGMA, active=bernoulli(self.blur)),
            solarize=bernoulli(self.solarize),
        )

    def apply(self, exemplars: Float[Tensor, "n c e e"], colors: ColorParams) -> Float[Tensor, "n c e e"]:
        """Recolor exemplars in 0..1."""
        n, *shape = exemplars.shape
        return map_chunks(
            lambda part: self._apply(exemplars[part], colors[part]), n, math.prod(shape), exemplars.device
        )

    def _apply(self, exemplars: Float[Tensor, "n c e e"], colors: ColorParams) -> Float[Tensor, "n c e e"]:
        if exemplars.shape[1] != 3:
            exemplars = self._jitter_channels(exemplars, colors)
        elif self.jitter_prob + self.grayscale > 0:
            matrix = color_matrix(exemplars.mean(dim=(-2, -1)), colors)
            flat = torch.baddbmm(matrix[..., 3:], matrix[..., :3], exemplars.flatten(2))
            exemplars = flat.clamp_(0, 1).unflatten(-1, exemplars.shape[-2:])
        if self.blur > 0:
            # Reflection padding must be below the image size.
            radius = min(math.ceil(3 * self.blur_sigma[1]), exemplars.shape[-1] - 1)
            exemplars = gaussian_blur(exemplars, colors.sigma, radius)
        if self.solarize > 0:
            # Values of at least 0.5 are inverted: the smaller one of x and 1 - x is the result.
            inverse_of = torch.where(colors.solarize, 1.0, torch.inf)[:, None, None, None]
            exemplars = torch.minimum(exemplars, inverse_of - exemplars)
        return exemplars

    def _jitter_channels(
        self, exemplars: Float[Tensor, "n c e e"], colors: ColorParams
    ) -> Float[Tensor, "n c e e"]:
        """Change brightness and contrast of each channel. Their order does not matter."""
        jitter = {"saturation": self.saturation, "hue": self.hue} if self.jitter_prob else {}
        skipped = [name for name, value in {**jitter, "grayscale": self.grayscale}.items() if value]
        _log_skipped(exemplars.shape[1], tuple(skipped))
        if self.jitter_prob == 0:
            return exemplars
        brightness, contrast = colors.brightness[:, None, None, None], colors.contrast[:, None, None, None]
        mean = exemplars.mean(dim=(-2, -1), keepdim=True)
        return (brightness * (mean + contrast * (exemplars - mean))).clamp(0, 1)


@functools.cache  # one line per process, not one per batch
def _log_skipped(channels: int, names: tuple[str, ...]) -> None:
    if names:
        images = "gray images" if channels == 1 else f"images of {channels} channels"
        log.info("appearance: skipped %s, which %s do not have", ", ".join(names), images)


def color_matrix(mean: Float[Tensor, "n 3"], colors: ColorParams) -> Float[Tensor, "n 3 4"]:
    """Return the matrix of jitter and grayscale: new color = matrix @ (r, g, b, 1).

    Args:
        mean: mean color of each exemplar before the jitter. Contrast scales about the mean luma of its input.
            This luma follows from the mean, because all earlier operations are affine.
    """
    luma = constant(LUMA, mean.device)
    eye = torch.eye(3, device=mean.device)
    brightness, contrast, saturation = (
        factor[:, None, None] for factor in (colors.brightness, colors.contrast, colors.saturation)
    )
    to_gray, hue = saturation * eye + (1 - saturation) * luma, _hue_matrix(colors.hue)
    # Columns of the state: the matrix, the bias, and the mean color after the operations so far.
    column = torch.arange(5, device=mean.device)
    identity = (column == column[:3, None]).to(mean.dtype)
    state = torch.where(column == 4, mean[..., None], identity)
    for step in colors.order[..., None, None].unbind(dim=1):
        scale = torch.where(step == BRIGHTNESS, brightness, contrast) * eye
        operation = torch.where(step == HUE, hue, torch.where(step == SATURATION, to_gray, scale))
        added = (1 - contrast) * (luma * state[..., 4]).sum(dim=-1)[:, None, None]  # by contrast
        is_shifted = (step == CONTRAST) & (column >= 3)
        state = _product(operation, state) + torch.where(is_shifted, added, 0)
    jitter = state[..., :4]
    gray_jitter = (luma[:, None] * jitter).sum(dim=1, keepdim=True)
    return torch.where(colors.grayscale[:, None, None], gray_jitter, jitter)


def _product(a: Float[Tensor, "n 3 3"], b: Float[Tensor, "n 3 m"]) -> Float[Tensor, "n 3 m"]:
    """Return matrix products, as a part of the kernel around them."""
    return (a[..., None] * b[:, None]).sum(dim=2)


def _hue_matrix(turns: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Return rotations about the axis (1, 1, 1); their entries depend on the row minus the column."""
    channels = torch.arange(3, device=turns.device)
    entries = (1 + 2 * torch.cos(2 * math.pi * (turns[:, None] - channels / 3))) / 3
    return entries[:, (channels[:, None] - channels) % 3]


NEUTRAL = Appearance(0, 0, 0, 0, jitter_prob=0, grayscale=0, blur=0, blur_sigma=(1, 1), solarize=0)
