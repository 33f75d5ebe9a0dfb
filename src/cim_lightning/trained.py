"""What was trained: a run of ours, a backbone that it exported, or any weights of a timm model."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from cim_lightning.errors import SettingError

UNTRAINED = "untrained"


class Trained(NamedTuple):
    """Weights and where they come from.

    settings: the resolved configuration of the run that made them; None if it was none of ours.
    recipe: the backbone as `backbone.json` says it; None if there is no such file.
    state: of the whole method with settings, of the timm model without; None for an untrained backbone.
    """

    path: Path | None
    settings: dict[str, Any] | None
    recipe: dict[str, Any] | None
    state: dict[str, torch.Tensor] | None


def read(checkpoint: str) -> Trained:
    """Reads a run's folder, its checkpoint, an exported backbone, or a file of timm weights.

    Raises:
        SettingError: there is no such file, or it holds no weights.
    """
    if checkpoint == UNTRAINED:
        return Trained(None, None, None, None)
    path = _file(Path(checkpoint).expanduser())
    if path.name == "backbone.safetensors" and (path.parent / "backbone.json").exists():
        recipe = json.loads((path.parent / "backbone.json").read_text())
        return Trained(path, None, recipe, load_file(path))
    loaded = _weights(path)
    if "state_dict" in loaded and "method" in loaded.get("hyper_parameters", {}):
        return Trained(path, loaded["hyper_parameters"], None, loaded["state_dict"])
    for key in ("state_dict", "model", "model_ema"):  # how others wrap them
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    return Trained(path, None, None, {name.removeprefix("module."): value for name, value in loaded.items()})


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    inside = [path / "checkpoints" / "last.ckpt", path / "backbone.safetensors"]
    for file in inside:
        if file.is_file():
            return file
    found = sorted(path.parent.glob("*")) if path.parent.is_dir() else []
    near = next((str(p) for p in found if p.name.startswith(path.name[:4])), UNTRAINED)
    fault = "holds no run and no backbone" if path.is_dir() else "does not exist"
    raise SettingError(f"checkpoint={path}: {fault}; nearest: checkpoint={near}")


def _weights(path: Path) -> dict[str, Any]:
    try:
        loaded = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # a damaged or foreign file makes them raise nearly anything
        reason = str(error).splitlines()[0]
        raise SettingError(f"checkpoint={path}: cannot be read as weights ({reason})") from error
    if not isinstance(loaded, dict):
        raise SettingError(f"checkpoint={path}: holds a {type(loaded).__name__}, not weights by name")
    return loaded
