"""Random training and validation images."""

import math

import numpy as np
from jaxtyping import Int64, UInt64

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.data.image_keys import SPLIT, mix
from cim_lightning.errors import ConfigError


def random_split(
    keys: UInt64[np.ndarray, " n"],
    val_fraction: float,
    seed: int,
    parameter: str = "root",
    given: object = None,
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " v"]]:
    """Return the sorted indices of the training and of the validation images.

    The split of an image depends on its key, the fraction and the seed only: other images do not change it.
    If all images would be in one split, the image next to the limit is in the other one.

    Args:
        keys: hashes of the images' names.
        val_fraction: probability that an image is for validation, above 0 and below 1.
        parameter, given: where the images come from, for errors.

    Raises:
        ConfigError: an argument is out of range, or there are fewer than two different images.
    """
    check_share("val_fraction", val_fraction, zero=False, one=False)
    check_at_least("seed", seed, 0)
    if len(keys) < 2 or (keys == keys[0]).all():
        rule = "has one image; a training and a validation split need two"
        raise ConfigError(parameter, given, rule, hint="try val=none")
    mixed = mix(keys, SPLIT, seed)
    limit = min(max(math.ceil(val_fraction * 2**64), int(mixed.min()) + 1), int(mixed.max()))
    in_val = mixed < np.uint64(limit)
    return np.flatnonzero(~in_val), np.flatnonzero(in_val)
