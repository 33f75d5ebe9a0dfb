"""The fifteen common corruptions of ImageNet-C in five severities, for images of any size.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, section 3 and appendix A, with the parameters that the authors published for images
of 224 pixels. Lengths are scaled with the shorter side. Accuracies can be compared between backbones, but not
with accuracies on the published files. The differences are:

* frost is procedural (weather.py);
* glass blur moves all pixels at once (blur.py);
* images are not stored as JPEG files of quality 85;
* elastic transform 1 and 2 (digital.py), snow 3, fog 4 and 5 (weather.py) have other parameters. With the
  published parameters, the distance from the clean image does not grow with the severity.
"""

from collections.abc import Callable

import torch

from cim_lightning.checks import check_one_of, check_within
from cim_lightning.evaluation.corruptions import blur, digital, noise, weather
from cim_lightning.evaluation.corruptions.image_ops import Images

SEVERITIES = (1, 2, 3, 4, 5)

_NOISE = (noise.gaussian_noise, noise.shot_noise, noise.impulse_noise)
_BLUR = (blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur)
_WEATHER = (weather.snow, weather.frost, weather.fog, weather.brightness)
_DIGITAL = (digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression)
CORRUPTIONS: dict[str, Callable[[Images, int, torch.Generator], Images]] = {
    function.__name__: function for function in (*_NOISE, *_BLUR, *_WEATHER, *_DIGITAL)
}  # by name, in the order of the paper


@torch.no_grad()
def corrupt(images: Images, corruption: str, severity: int, generator: torch.Generator) -> Images:
    """Return corrupted RGB images in 0..1.

    All severities use the same random numbers, except in shot noise.

    Args:
        corruption: a key of CORRUPTIONS.
        severity: 0 (identity) to 5.
    """
    check_one_of("corruption", corruption, CORRUPTIONS)
    check_within("severity", severity, 0, 5)
    return CORRUPTIONS[corruption](images, severity, generator) if severity else images
