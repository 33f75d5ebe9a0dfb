"""The fifteen common corruptions of ImageNet-C in five severities, for images of any size.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, section 3 and appendix A, with the parameters that its authors published. Those are
for images of 224 pixels: lengths are scaled with the shorter side. What else differs, and so makes numbers
comparable between backbones here rather than with those on the published files: frost is procedural
(textures.py), glass blur moves all pixels at once (blur.py), images are not stored as JPEG files of quality
85 in the end, and five severities are others: elastic transform 1 and 2 (digital.py), snow 3, fog 4 and 5
(weather.py), because as published they break the order of distances from the clean image.
"""

import difflib
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.corruptions import blur, digital, noise, weather

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frosted,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}


@torch.no_grad()
def corrupt(
    images: Float[Tensor, "b 3 h w"], corruption: str, severity: int, generator: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """RGB images of 0..1, corrupted; severity 0 is the identity, 5 the worst.

    The random numbers are drawn from the generator first and, shot noise aside, do not depend on severity.
    Raises ConfigError where there is no such corruption or severity.
    """
    if corruption not in CORRUPTIONS:
        (near,) = difflib.get_close_matches(corruption, CORRUPTIONS, 1, cutoff=0)
        raise ConfigError(f"corruption={corruption}: there is no such corruption; try {near}")
    if severity not in (0, *SEVERITIES):
        raise ConfigError(f"severity={severity}: in 0..5; try {min(max(severity, 0), 5)}")
    return CORRUPTIONS[corruption](images, severity, generator) if severity else images
