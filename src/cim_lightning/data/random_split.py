"""Random training and validation images."""

import numpy as np
from jaxtyping import Int64

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.errors import ConfigError


def random_split(
    num_images: int, val_fraction: float, seed: int, parameter: str = "root", given: object = None
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " v"]]:
    """Return the sorted numbers of the training and of the validation images, a function of the arguments.

    Args:
        val_fraction: share of the validation images, above 0 and below 1; each split has at least one image.
        parameter, given: where the images come from, for errors.

    Raises:
        ConfigError: an argument is out of range, or there are too few images.
    """
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    if num_images < 2:
        rule = "has one image; a training and a validation split need two"
        raise ConfigError(parameter, given, rule, hint="try val=none")
    num_val = min(max(round(val_fraction * num_images), 1), num_images - 1)
    order = np.random.default_rng(seed).permutation(num_images)
    return np.sort(order[num_val:]), np.sort(order[:num_val])
