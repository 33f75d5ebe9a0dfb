"""Arguments of a function that returns the images of a data set."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from cim_lightning.checks import did_you_mean
from cim_lightning.data.pixel_format import PixelFormat
from cim_lightning.data.source import Splits
from cim_lightning.errors import ConfigError


def bind_pixels(
    source: Callable[..., Splits], arguments: Mapping[str, Any], pixels: PixelFormat
) -> Callable[..., Splits]:
    """Return a function that returns images, with its parameter `pixels` bound, if it has one.

    Args:
        source: the function.
        arguments: with which it will be called, by name.
        pixels: format of the images.

    Raises:
        ConfigError: an argument is unknown or missing.
    """
    parameters = dict(inspect.signature(source).parameters)
    converts = parameters.pop("pixels", None) is not None
    for name in arguments.keys() - parameters.keys():
        hint = did_you_mean(name, [*parameters, "batch_size", "num_workers", "view_size"])
        raise ConfigError(name, arguments[name], "this data set has no such setting", hint=hint)
    for name, parameter in parameters.items():
        if name not in arguments and parameter.default is inspect.Parameter.empty:
            raise ConfigError(name, rule="this data set needs it", suggest="...")
    return functools.partial(source, pixels=pixels) if converts else source
