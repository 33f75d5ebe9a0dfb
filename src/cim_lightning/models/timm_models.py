"""Creation of a timm model, and what timm knows about its feature maps and image sizes."""

import math
from collections.abc import Mapping
from typing import Any

import timm

from cim_lightning.checks import did_you_mean
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Level

WEIGHTS = ("pretrained", "checkpoint_path")  # arguments that load weights, which later steps would overwrite
# What timm raises for arguments of another type, out of range or unknown.
INVALID_ARGUMENTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def create_timm_model(name: str, kwargs: Mapping[str, Any], in_channels: int = 3) -> Any:
    """Return timm's model without a classifier, or raise ConfigError."""
    for key in [key for key in WEIGHTS if kwargs.get(key)]:
        hint = f"try weights={'timm' if key == 'pretrained' else kwargs[key]}"
        raise ConfigError("kwargs", dict(kwargs), f"{key} is not part of the architecture", hint=hint)
    if "in_chans" in kwargs:
        channels, rule = kwargs["in_chans"], "follows from the number of channels of the images"
        raise ConfigError("in_chans", channels, rule, hint=f"try in_channels={channels}")
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError("name", name, "is not a model of timm", hint=hint)
    for key, value in kwargs.items():  # timm would fail with the first images
        low = 1 if key == "depth" else 0
        if isinstance(value, int | float) and value < low:
            rule = f"{key} must be at least {low}"
            raise ConfigError("kwargs", {key: value}, rule, hint=f"leave {key} out")
    try:
        return timm.create_model(name, **kwargs, in_chans=in_channels, num_classes=0)
    except INVALID_ARGUMENTS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        rule = f"timm cannot create {name} with these arguments ({reason})"
        hint = f"choose a backbone file of the same architecture, with name={name}"
        raise ConfigError("kwargs", dict(kwargs), rule, hint=hint) from None


def timm_levels(model: Any) -> list[Level]:
    """Return the levels of a timm model; empty if timm has no intermediate features of it."""
    info = getattr(model, "feature_info", None) if hasattr(model, "forward_intermediates") else None
    return [Level(int(level["num_chs"]), int(level["reduction"])) for level in info or []]


def timm_size_multiple(embed: Any) -> int:
    """Return the patch size in pixels if timm's patch embedding requires whole patches, else 1."""
    if getattr(embed, "dynamic_img_pad", False) or not hasattr(embed, "strict_img_size"):
        return 1
    return math.lcm(*embed.patch_size)
