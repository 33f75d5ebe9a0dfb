"""Mean and standard deviation of the images with which weights were trained, from the files beside them."""

import json
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.weights.hub import FILES

Normalization = dict[str, list[float]]  # "mean" and "std" of each channel, for images in 0..1


def read_normalization(path: Path | None, model: nn.Module) -> Normalization | None:
    """Return the normalization of the images of weights; None: unknown.

    Args:
        path: of the weights; None: those that timm has for the model.
        model: of timm.

    Raises:
        ConfigError: a file beside the weights is damaged.
    """
    config = _read_config(path) if path else getattr(model, "pretrained_cfg", None) or {}
    mean, std = (_per_channel(config.get(name)) for name in ("mean", "std"))
    return {"mean": mean, "std": std} if mean and len(mean) == len(std) else None


def read_description(file: Path, parameter: str) -> dict[str, Any]:
    """Return the object in a JSON file that describes weights; {} if there is no such file.

    Args:
        file: such as backbone.json.
        parameter: for the error.

    Raises:
        ConfigError: the file is damaged.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        rule = "is beside the weights, but damaged"
        raise ConfigError(parameter, file, rule, hint="restore the file, or copy the weights elsewhere")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    """Return the description of the images that belongs to an export, a repository of the Hub, or a run."""
    if path.name == "backbone.safetensors":
        return read_description(path.with_name("backbone.json"), "weights")
    if path.name in FILES:
        of_timm = read_description(path.with_name("config.json"), "weights").get("pretrained_cfg")
        if isinstance(of_timm, dict):
            return of_timm
        images = read_description(path.with_name("preprocessor_config.json"), "weights")  # of transformers
        return {name: images.get(f"image_{name}") for name in ("mean", "std")}
    folder = path.absolute().parent
    if folder.name == "checkpoints":
        return _backbone_settings(folder.with_name("config.yaml"))
    return {}


def _backbone_settings(config: Path) -> dict[str, Any]:
    """Return the settings of a run's backbone; {} if the file is of another program."""
    try:
        settings = yaml.safe_load(config.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        settings = None
    backbone = settings.get("backbone") if isinstance(settings, dict) else None
    return backbone if isinstance(backbone, dict) else {}


def _per_channel(values: Any) -> list[float]:
    """Return the value of each channel; [] if they are not given, or not as numbers."""
    values = [values] * 3 if isinstance(values, int | float) else values  # transformers accepts one for RGB
    is_list = isinstance(values, list | tuple) and all(isinstance(v, int | float) for v in values)
    return list(values) if is_list else []
