"""Weights to evaluate or export: a checkpoint of a run, an exported backbone, other weights, or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cim_lightning.checkpoint_files import LAST, PREVIOUS, changed_record, newest
from cim_lightning.errors import ConfigError, format_value
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.timm_backbone import TimmBackbone
from cim_lightning.old_settings import upgrade
from cim_lightning.weights.file import load
from cim_lightning.weights.location import HUB, TIMM, UNTRAINED, find_file
from cim_lightning.weights.match import match
from cim_lightning.weights.normalization import read_description
from cim_lightning.weights.selection import AUTO, run_settings
from cim_lightning.weights.state import BackboneState

COPY_AGAIN = "copy or export both files again, or try the run's folder"
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint of `cim-pretrain`: the resolved settings, and the state of the method."""

    path: Path
    settings: dict[str, Any]
    state: State

    def load(self, method: nn.Module) -> None:
        """Load the state into the method that the settings describe.

        Raises:
            ConfigError: it is the state of another method, or of another network.
        """
        try:
            method.load_state_dict(self.state)
        except (RuntimeError, TypeError, AttributeError) as error:  # of other shapes, and no tensors
            reason = " ".join(str(error).splitlines()[-1].split())
            rule = f"its weights do not fit {type(method).__name__} with the settings in it ({reason})"
            raise ConfigError("checkpoint", self.path, rule, hint="copy or train it again") from error

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
            ConfigError: backbone.json is incomplete, or does not describe these weights.
        """
        kwargs = dict(self._entry("create_model", dict))
        name, channels = str(kwargs.pop("model_name", "")), kwargs.pop("in_chans", 3)
        kwargs.pop("num_classes", None)
        mean, std = self._entry("mean", list), self._entry("std", list)
        try:
            backbone = TimmBackbone(name, kwargs, in_channels=channels, mean=mean, std=std)
        except (ConfigError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise self._damaged(f"describes no model of timm ({reason})") from error
        state = BackboneState(self.state, "its", self.path, [])
        try:
            tensors = match(state, backbone.timm_model().state_dict(), name)
        except ConfigError as error:
            raise ConfigError(
                "checkpoint", self.path, f"{error.rule}, the model of backbone.json", hint=COPY_AGAIN
            ) from error
        backbone.timm_model().load_state_dict(tensors)
        return backbone

    def image_size(self) -> int:
        """Return the side of the images in pixels. Raise ConfigError if backbone.json does not have it."""
        return self._entry("image_size", int)

    def in_channels(self) -> int:
        """Return the number of channels of the images."""
        channels = self._entry("create_model", dict).get("in_chans", 3)
        return channels if isinstance(channels, int) else 3

    def _entry(self, key: str, kind: type) -> Any:
        if not isinstance(value := self.spec.get(key), kind):
            raise self._damaged(f"has no {key}" if value is None else f"has {key}={format_value(value)}")
        return value

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError("checkpoint", self.path, f"backbone.json beside it {reason}", hint=COPY_AGAIN)


@dataclass(frozen=True)
class PlainWeights:
    """Weights without an architecture, for a given backbone: of another program, timm's own, or none."""

    source: str  # see `TimmBackbone.load_weights`; "untrained" for none
    path: Path | None  # None: no local file

    def load(self, backbone: Backbone, layout: str = AUTO) -> Backbone:
        """Load the weights into a backbone and return it.

        Raises:
            ConfigError: the weights do not fit the backbone, it is not a timm model, or a layout is given
                without weights.
        """
        if self.source == UNTRAINED:
            if layout != AUTO:
                raise ConfigError("weights_layout", layout, "there are no weights", suggest=AUTO)
            return backbone
        if not isinstance(backbone, TimmBackbone):
            hint = "load the weights into its module, and use checkpoint=untrained"
            rule = f"are timm weights, but {backbone.name} is not a timm model"
            raise ConfigError("checkpoint", self.source, rule, hint=hint)
        try:
            backbone.load_weights(self.source, layout)
        except ConfigError as error:
            if error.parameter != "weights":
                raise
            raise ConfigError("checkpoint", error.value, error.rule, hint=error.hint) from error
        return backbone

    def image_size(self) -> int:
        """Raise ConfigError: these weights have neither an architecture nor an image size."""
        hint = "try a run's folder, or a backbone.safetensors with its backbone.json"
        rule = "does not say which architecture its weights have, and for which images"
        raise ConfigError("checkpoint", self.source, rule, hint=hint)


Weights = RunCheckpoint | ExportedBackbone | PlainWeights


def read_weights(checkpoint: str) -> Weights:
    """Read a run's folder, a checkpoint or an exported backbone; other weights are read with their backbone.

    Raises:
        ConfigError: there is no such file, it has no weights, or backbone.json is damaged.
    """
    if checkpoint in (UNTRAINED, TIMM) or checkpoint.startswith(HUB):
        return PlainWeights(checkpoint, None)
    path = find_file(checkpoint, "checkpoint")
    if path.name == LAST and Path(checkpoint).name != LAST and path.with_name(PREVIOUS).exists():
        path = newest(path.parent, "checkpoint") or path
    weights = load(path, "checkpoint")
    is_export = path.name == "backbone.safetensors"
    if is_export and (spec := read_description(path.with_name("backbone.json"), "checkpoint")):
        return ExportedBackbone(path, _upgrade(spec), weights)
    if (settings := run_settings(weights)) is not None:
        if record := changed_record(path):
            hint = "restore the file, or try another checkpoint of the run"
            raise ConfigError(
                "checkpoint", path, f"is damaged: {record} changed after it was written", hint=hint
            )
        return RunCheckpoint(path, upgrade(settings), weights["state_dict"])
    return PlainWeights(checkpoint, path)


def _upgrade(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a backbone.json; earlier versions wrote `normalize`, null for none."""
    if "normalize" not in spec:
        return spec
    create, normalize = spec.get("create_model"), spec["normalize"] or {}
    channels = create.get("in_chans", 3) if isinstance(create, dict) else 3
    if not isinstance(normalize, dict) or not isinstance(channels, int) or not 0 < channels <= 1000:
        return spec
    plain = {key: normalize[key] for key in ("mean", "std") if key in normalize}
    return {"mean": [0.0] * channels, "std": [1.0] * channels} | plain | spec
