"""Mean and standard deviation of the images with which weights were trained, from the files beside them."""

from pathlib import Path
from typing import Any

import yaml
from torch import nn

from cim_lightning.atomic import read_json

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
Normalization = dict[str, list[float]]  # "mean" and "std" of each channel, for images in 0..1


def read_normalization(path: Path | None, model: nn.Module) -> Normalization | None:
    """Return the normalization of the images of weights; None: unknown.

    Args:
        path: of the weights; None: those that timm has for the model.
        model: of timm.
    """
    config = _read_config(path) if path else getattr(model, "pretrained_cfg", None) or {}
    found = {name: config.get(name) for name in ("mean", "std")}
    return {name: list(values) for name, values in found.items() if values} if all(found.values()) else None


def _read_config(path: Path) -> dict[str, Any]:
    """Return the description of the images that belongs to an export, a repository of the Hub, or a run."""
    if path.name == "backbone.safetensors":
        return read_json(path.with_name("backbone.json"))
    if path.name in HUB_FILES:
        images = read_json(path.with_name("preprocessor_config.json"))  # of transformers
        images = {name: images.get(f"image_{name}") for name in ("mean", "std")}
        return read_json(path.with_name("config.json")).get("pretrained_cfg") or images
    settings = path.absolute().parent.with_name("config.yaml")
    if path.parent.name == "checkpoints" and settings.exists():
        return (yaml.safe_load(settings.read_text()) or {}).get("backbone") or {}
    return {}
