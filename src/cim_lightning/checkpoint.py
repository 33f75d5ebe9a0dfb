"""What was trained: a run of ours, a backbone that it exported, or any weights of a timm model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone

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
        ConfigError: there is no such file, or it holds no weights.
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


def exported(found: Trained) -> Backbone:
    """The backbone whose weights lie beside the file that says what they are."""
    assert found.recipe is not None
    shape = dict(found.recipe["create_model"])
    name, _ = (shape.pop(key) for key in ("model_name", "num_classes"))
    made = Backbone(name, shape, positions="timm", freeze_patch_embed=False, init="timm")
    made.model.load_state_dict(found.state)
    return made


def backbone(found: Trained, make: Callable[[], Backbone]) -> Backbone:
    """A backbone with weights of another origin; `make` makes it where they do not say what it is.

    Raises:
        ConfigError: the weights are another architecture's.
    """
    if found.recipe is not None:
        return exported(found)
    made = make()
    if found.state is None:
        return made
    wanted = made.model.state_dict()
    fitting = {name: found.state[name] for name in wanted if name in found.state}
    for name, tensor in wanted.items():
        if name not in fitting or fitting[name].shape != tensor.shape:
            has = tuple(fitting[name].shape) if name in fitting else "none"
            raise ConfigError(
                f"checkpoint={found.path}: not weights of {made.timm_kwargs['model_name']}, whose {name} is "
                f"{tuple(tensor.shape)} (here: {has}); try the backbone= that they were made with"
            )
    made.model.load_state_dict(fitting)
    return made


def shown(found: Trained) -> tuple[dict[str, Any] | None, int]:
    """What it was trained on: the normalization, as a configuration, and the side of the views in pixels.

    Raises:
        ConfigError: nothing says so.
    """
    if found.settings is not None:
        return found.settings["cropping"]["normalize"], found.settings["data"]["view_size"]
    if found.recipe is not None and "image_size" in found.recipe:
        return found.recipe["normalize"], found.recipe["image_size"]
    raise ConfigError(
        f"checkpoint={found.path or UNTRAINED}: nothing says which architecture these weights are of, and "
        f"for which images; try a run's folder, or a backbone.safetensors beside its backbone.json"
    )


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    inside = [path / "checkpoints" / "last.ckpt", path / "backbone.safetensors"]
    for file in inside:
        if file.is_file():
            return file
    found = sorted(path.parent.glob("*")) if path.parent.is_dir() else []
    near = next((f"checkpoint={p}" for p in found if p.name.startswith(path.name[:4])), "a run's folder")
    fault = "holds no run and no backbone" if path.is_dir() else "does not exist"
    raise ConfigError(f"checkpoint={path}: {fault}; try {near}")


def _weights(path: Path) -> dict[str, Any]:
    try:
        loaded = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # a damaged or foreign file makes them raise nearly anything
        reason = str(error).splitlines()[0]
        raise ConfigError(f"checkpoint={path}: cannot be read as weights ({reason})") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"checkpoint={path}: holds a {type(loaded).__name__}, not weights by name")
    return loaded
