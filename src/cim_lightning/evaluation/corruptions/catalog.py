"""The fifteen common corruptions of ImageNet-C in five severities, for images of any size.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, section 3 and appendix A, with the parameters that the authors published for images
of 224 pixels. Lengths are scaled with the shorter side. Numbers compare backbones with each other, but not
with numbers on the published files, for these differences:

* frost is procedural (weather.py);
* glass blur moves all pixels at once (blur.py);
* images are not stored as JPEG files of quality 85;
* elastic transform 1 and 2 (digital.py), snow 3, fog 4 and 5 (weather.py) have other parameters. With the
  published ones, the distance from the clean image does not grow with the severity.
"""

from collections.abc import Callable

import torch

from cim_lightning.checks import check_one_of, check_within
from cim_lightning.evaluation.corruptions import blur, digital, noise, weather
from cim_lightning.evaluation.corruptions.image_ops import Images

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS: dict[str, Callable[[Images, int, torch.Generator], Images]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}


@torch.no_grad()
def corrupt(images: Images, corruption: str, severity: int, generator: torch.Generator) -> Images:
    """Return corrupted RGB images of 0..1.

    Random numbers are drawn first and do not depend on the severity, except in shot noise.

    Args:
        corruption: a key of CORRUPTIONS.
        severity: 0 (identity) to 5.

    Raises:
        ConfigError: there is no such corruption or severity.
    """
    check_one_of("corruption", corruption, CORRUPTIONS)
    check_within("severity", severity, 0, 5)
    return CORRUPTIONS[corruption](images, severity, generator) if severity else images
