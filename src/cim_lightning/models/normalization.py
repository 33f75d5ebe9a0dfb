"""Mean and standard deviation of the images of a backbone, and their defaults."""

import math
from collections.abc import Sequence

from cim_lightning.errors import ConfigError

# Of ImageNet, by the number of channels: gray, with the mean of the channels as timm has it, and RGB.
DEFAULTS = {
    "mean": {1: (0.449,), 3: (0.485, 0.456, 0.406)},
    "std": {1: (0.226,), 3: (0.229, 0.224, 0.225)},
}


def normalization(
    in_channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, list[float]]:
    """Return "mean" and "std" of each channel, for images in 0..1.

    Args:
        in_channels: number of channels.
        mean, std: None: those of ImageNet, for 1 or 3 channels.

    Raises:
        ConfigError: the number of values differs from the number of channels, a standard deviation is not
            above 0, or there is no default.
    """
    found = {}
    for parameter, given in (("mean", mean), ("std", std)):
        values = DEFAULTS[parameter].get(in_channels) if given is None else given
        if not values:
            rule = f"is required for {in_channels} channel{'s' if in_channels > 1 else ''}"
            raise ConfigError(parameter, given, rule, hint="measure it with cim-prepare stats")
        found[parameter] = list(values)
        if len(values) != in_channels:
            rule = f"must have one value for each of the {in_channels} channels"
            raise ConfigError(parameter, found[parameter], rule, suggest=[0.5] * in_channels)
    if not all(map(math.isfinite, found["mean"])):
        raise ConfigError("mean", found["mean"], "must be finite", suggest=[0.5] * in_channels)
    if not all(0 < value < math.inf for value in found["std"]):
        raise ConfigError("std", found["std"], "must be above 0 and finite", suggest=[0.5] * in_channels)
    return found
