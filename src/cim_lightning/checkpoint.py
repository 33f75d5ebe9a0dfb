"""Weights to evaluate or export: a checkpoint of a run, an exported backbone, timm weights, or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cim_lightning.atomic import read_json
from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.weights.file import load
from cim_lightning.weights.location import find_file

UNTRAINED = "untrained"
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint of `cim-pretrain`: the resolved settings, and the state of the method."""

    path: Path
    settings: dict[str, Any]
    state: State

    def image_size(self) -> int:
        """Return the side of the images in pixels."""
        return self.settings["data"]["view_size"]


@dataclass(frozen=True)
class ExportedBackbone:
    """A `backbone.safetensors` with its `backbone.json`."""

    path: Path
    spec: dict[str, Any]
    state: State

    def load(self) -> Backbone:
        """Return the backbone with the weights.

        Raises:
            ConfigError: backbone.json is incomplete.
        """
        kwargs = dict(self._entry("create_model"))
        name, _ = kwargs.pop("model_name"), kwargs.pop("num_classes")
        backbone = TimmBackbone(name, kwargs, mean=self._entry("mean"), std=self._entry("std"))
        backbone.timm_model().load_state_dict(self.state)
        return backbone

    def image_size(self) -> int:
        """Return the side of the images in pixels. Raise ConfigError if backbone.json does not have it."""
        return self._entry("image_size")

    def _entry(self, key: str) -> Any:
        if key not in self.spec:
            rule = f"has no {key} in backbone.json"
            raise ConfigError("checkpoint", self.path, rule, hint="try the run folder")
        return self.spec[key]


@dataclass(frozen=True)
class TimmWeights:
    """State of a timm model, without its architecture; None for an untrained backbone."""

    path: Path | None
    state: State | None

    def load(self, backbone: Backbone) -> Backbone:
        """Load the weights into a backbone and return it.

        Raises:
            ConfigError: the weights belong to another architecture, or the backbone is not a timm model.
        """
        if self.state is None:
            return backbone
        if not isinstance(backbone, TimmBackbone):
            hint = "load the weights into its module, and use checkpoint=untrained"
            rule = f"are timm weights, but {backbone.name} is not a timm model"
            raise ConfigError("checkpoint", self.path, rule, hint=hint)
        model, expected = backbone.name, backbone.timm_model().state_dict()
        for name, tensor in expected.items():
            shape = tuple(self.state[name].shape) if name in self.state else "missing"
            if shape != tuple(tensor.shape):
                hint = "try the architecture of these weights"
                rule = f"are not weights of {model}, whose {name} is {tuple(tensor.shape)} (here: {shape})"
                raise ConfigError("checkpoint", self.path, rule, hint=hint)
        backbone.timm_model().load_state_dict({name: self.state[name] for name in expected})
        return backbone

    def image_size(self) -> int:
        """Raise ConfigError: timm weights have neither an architecture nor an image size."""
        hint = "try a run's folder, or a backbone.safetensors with its backbone.json"
        rule = "does not say which architecture its weights have, and for which images"
        raise ConfigError("checkpoint", self.path or UNTRAINED, rule, hint=hint)


Weights = RunCheckpoint | ExportedBackbone | TimmWeights


def read_weights(checkpoint: str) -> Weights:
    """Read a run's folder, a checkpoint, an exported backbone, or a file of timm weights.

    Raises:
        ConfigError: there is no such file, or it has no weights.
    """
    if checkpoint == UNTRAINED:
        return TimmWeights(None, None)
    path = find_file(Path(checkpoint).expanduser(), "checkpoint")
    weights = load(path, "checkpoint")
    if path.name == "backbone.safetensors" and (spec := read_json(path.with_name("backbone.json"))):
        return ExportedBackbone(path, _upgrade(spec), weights)
    if "state_dict" in weights and "method" in weights.get("hyper_parameters", {}):
        return RunCheckpoint(path, weights["hyper_parameters"], weights["state_dict"])
    for key in ("state_dict", "model", "model_ema"):  # as other projects wrap them
        weights = weights[key] if isinstance(weights.get(key), dict) else weights
    return TimmWeights(path, {name.removeprefix("module."): value for name, value in weights.items()})


def global_step(checkpoint: str) -> int:
    """Return the number of optimizer steps of a run's checkpoint, without reading its weights."""
    return torch.load(checkpoint, "cpu", weights_only=True, mmap=True)["global_step"]


def _upgrade(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a backbone.json; earlier versions wrote `normalize`, null for none."""
    if "normalize" not in spec:
        return spec
    channels = spec["create_model"]["in_chans"]
    return {"mean": [0.0] * channels, "std": [1.0] * channels, **(spec["normalize"] or {})} | spec
