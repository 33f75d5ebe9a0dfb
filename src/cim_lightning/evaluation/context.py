"""`EvalContext`, the input of every evaluator, and the `Evaluator` protocol."""

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

Classifier = Callable[[Tensor], Tensor]  # images in 0..1, "b c h w" -> logits, "b classes"


@dataclass
class EvalContext:
    """A backbone and the data to evaluate it on, with a cache of its features. Evaluators modify neither."""

    backbone: Backbone  # in evaluation mode, on `device`
    method: Any  # the whole pre-training method; None if the weights are not a checkpoint of this project
    normalize: Callable[[Tensor], Tensor]  # maps images in 0..1 to the backbone's input
    data: Any  # an ImageData, or an object with its data loaders
    device: torch.device
    folder: Path  # output folder of the evaluators
    seed: int  # of all random numbers
    cache_key: dict[str, Any]  # plain values that identify weights, data and seed
    _features: dict[tuple[str, int | None, int], FeatureSet] = field(default_factory=dict)

    def features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """Return the cached features of at most `limit` center crops of the "train" or "val" split.

        With `layers` above 1, the features are means over that many last layers (see LastLayers).
        """
        key = (split, limit, layers)
        if key not in self._features:
            model = self.backbone if layers == 1 else LastLayers(self.backbone, layers)
            batches = self.data.center_crop_dataloader(split, limit)
            batches = tqdm(batches, f"features of {split}", unit="batch", leave=False, disable=None)
            self._features[key] = extract(model, batches, self.normalize, self.device)
        return self._features[key]

    def labeled_features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """Return the features of the labeled images. Raise ConfigError if no image has a label."""
        features = self.features(split, limit, layers)
        labeled = features.labels >= 0
        if not labeled.any():
            raise ConfigError(f"the {split} images have no labels; put them into one folder per class")
        return FeatureSet(*(tensor[labeled] for tensor in features))

    def training_cache(self, group: str, name: str, args: Any) -> TrainingCache:
        """Return the cache of a training with these arguments on this context."""
        return TrainingCache(self.folder / group / name, {"context": self.cache_key, "args": args})

    def autocast(self) -> torch.autocast:
        """Return bf16 autocast, enabled on GPUs with native bf16; emulated bf16 is slower than fp32."""
        native = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)


FitClassifier = Callable[[EvalContext], Classifier]  # trains a classifier on the training images


@runtime_checkable
class Evaluator(Protocol):
    """Compute metrics of a backbone, by name. `suite.evaluate` prefixes them with the evaluator's name."""

    def __call__(self, context: EvalContext) -> dict[str, float]: ...


def resolve_device(name: str) -> torch.device:
    """Return a device by name; "auto" is the GPU if there is one, else the CPU."""
    available = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if available else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise ConfigError("device", name, "must be a device of torch", suggest="auto") from None
    if device.type == "cuda" and not available:
        raise ConfigError("device", name, "this machine has no GPU", suggest="cpu")
    return device
