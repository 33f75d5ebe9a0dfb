"""What is evaluated: a backbone, what its images want, and the images it is judged by."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import FeatureSet, extract
from cim_lightning.evaluation.training_cache import TrainingCache
from cim_lightning.models.backbone import Backbone
from cim_lightning.models.last_layers import LastLayers


@dataclass
class EvalContext:
    """Everything that a part of the evaluation may look at; parts leave all of it as they found it.

    backbone: in evaluation mode, on `device`. method: the whole pre-training method where a checkpoint of
    ours was given, else None. normalize: maps images of 0..1 to what the backbone reads. data: the images, an
    ImageData or what has its loaders. folder: for pictures. seed: of all that a part draws. origin: what all
    that can be said of the context depends on (weights, data, seed), as plain values.
    """

    backbone: Backbone
    method: Any
    normalize: Callable[[Tensor], Tensor]
    data: Any
    device: torch.device
    folder: Path
    seed: int
    origin: dict[str, Any]
    _features: dict[tuple[str, int | None, int], FeatureSet] = field(default_factory=dict)

    def features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """Features of at most `limit` whole images of "train" or "val"; extracted once, whoever asks.

        Of `layers` above 1 they are means over so many last layers (see LastLayers).
        """
        key = (split, limit, layers)
        if key not in self._features:
            batches = self.data.center_crop_dataloader(split, limit)
            bar = tqdm(batches, f"features of {split}", unit="batch", leave=False, disable=None)
            reader = self.backbone if layers == 1 else LastLayers(self.backbone, layers)
            self._features[key] = extract(reader, bar, self.normalize, self.device)
        return self._features[key]

    def labeled_features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """The same, of images with a label. Raises ConfigError if there is none."""
        features = self.features(split, limit, layers)
        known = features.labels >= 0
        if not known.any():
            raise ConfigError(
                f"data: its {split} images have no labels, which this part needs; try class folders"
            )
        return FeatureSet(*(part[known] for part in features))

    def kept(self, place: str, name: str, asked: Any) -> TrainingCache:
        """Where a training of this context is kept, for the very same `asked` (see TrainingCache)."""
        whole = {"of": self.origin, "asked": asked}
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:8]
        return TrainingCache(self.folder / place / f"{name}-{digest}", whole)

    def autocast(self) -> torch.autocast:
        """bf16 where the device computes in it, else fp32: emulated, it is many times slower."""
        fast = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU. Raises ConfigError."""
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if cuda else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise ConfigError(f"device={name}: no such kind of device; try auto") from None
    if device.type == "cuda" and not cuda:
        raise ConfigError(f"device={name}: this machine has no such GPU; try cpu")
    return device


@runtime_checkable
class Evaluator(Protocol):
    """One way to judge a backbone: its numbers by name, of which the part's own name is put before."""

    def __call__(self, context: EvalContext) -> dict[str, float]: ...
