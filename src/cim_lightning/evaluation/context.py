"""`EvalContext`, the input of every evaluator, and the `Evaluator` protocol."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from cim_lightning.data.view_dataset import CenterSquare, EvalView
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import FeatureSet, extract
from cim_lightning.evaluation.trainer_factory import TrainerFactory
from cim_lightning.metric_registry import Metric
from cim_lightning.models.backbone import Backbone

Classifier = Callable[[Tensor], Tensor]  # images in 0..1, "b c h w" -> logits, "b classes"


@dataclass
class EvalContext:
    """A backbone and the data to evaluate it on, with a cache of its features. Evaluators modify neither."""

    backbone: Backbone  # in evaluation mode, on `device`
    method: Any  # the whole pre-training method; None if the weights are not a checkpoint of this project
    data: Any  # an ImageData, or an object with its data loaders
    device: torch.device
    folder: Path  # output folder of the evaluators; only the process of rank 0 writes
    seed: int  # of all random numbers
    cache_key: dict[str, Any]  # plain values that identify weights, data and seed
    view: EvalView | None = None  # preprocessing, for images of any size; None: the centered square
    trainer: TrainerFactory | None = None  # of evaluators that train a network; None: one for `device`
    rank: int = 0  # number of this process
    world_size: int = 1  # number of processes, which share the images
    protocol: dict[str, Any] = field(default_factory=dict)  # recorded by the present evaluator
    _features: dict[tuple[str, int | None, int], FeatureSet] = field(default_factory=dict)

    def record(self, **protocol: Any) -> None:
        """Record what a reader of the metrics needs beside them, such as k or the chosen learning rate.

        Args:
            protocol: plain values by name. The suite writes them to `metrics.json`.
        """
        self.protocol.update(protocol)

    @property
    def preprocessing(self) -> EvalView:
        """The view of the images, in the size of the data; another domain may have another size."""
        size = self.data.view.size
        return CenterSquare(size) if self.view is None else replace(self.view, size=size)

    def num_images(self, split: str, limit: int | None) -> int:
        """Return the number of images of the "train" or "val" split, at most `limit`."""
        images = len(getattr(self.data.splits, split))
        return images if limit is None else min(images, limit)

    def on(self, data: Any) -> "EvalContext":
        """Return the same context on other images; those that cannot be decoded go to the same list."""
        if hasattr(self.data, "bad_images"):
            data.bad_images = self.data.bad_images
        return replace(self, data=data, _features={})

    def batches(self, split: str, limit: int | None, shard: bool = True) -> DataLoader[Any]:
        """Return batches of (views, labels, seed), preprocessed, the same in every call.

        Args:
            split: "train" or "val".
            limit: maximum number of images, a random subset; None: all.
            shard: every process gets other batches, numbers rank, rank + world_size, ... of all batches.
                Otherwise every process gets all of them.
        """
        processes = (self.rank, self.world_size) if shard else (0, 1)
        return self.data.eval_dataloader(split, limit, self.preprocessing, *processes)

    def features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """Return the cached features of at most `limit` images of the "train" or "val" split.

        Every process extracts the features of its share of the images, and returns those of all.

        Args:
            layers: above 1: means over that many last layers (see LastLayers).
        """
        key = (split, limit, layers)
        if key not in self._features:
            batches = self.batches(split, limit)
            batches = tqdm(batches, f"features of {split}", unit="batch", leave=False, disable=None)
            self._features[key] = extract(
                self.backbone, batches, self.device, self.num_images(split, limit), layers
            )
        return self._features[key]

    def labeled_features(self, split: str, limit: int | None, layers: int = 1) -> FeatureSet:
        """Return the features of the labeled images. Raise ConfigError if no image has a label."""
        features = self.features(split, limit, layers)
        labeled = features.labels >= 0
        if not labeled.any():
            raise ConfigError(f"the {split} images have no labels; put them into one folder per class")
        return features if labeled.all() else FeatureSet(*(tensor[labeled] for tensor in features))

    def autocast(self) -> torch.autocast:
        """Return bf16 autocast, enabled on GPUs with native bf16; emulated bf16 is slower than fp32."""
        native = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)


FitClassifier = Callable[[EvalContext], Classifier]  # trains a classifier on the training images


@runtime_checkable
class Evaluator(Protocol):
    """Compute metrics of a backbone, by name. `suite.evaluate` prefixes them with the evaluator's name."""

    metrics: ClassVar[tuple[Metric, ...]]  # what it computes

    def applies(self, context: EvalContext) -> str | None:
        """Return why this evaluator does not apply, else None.

        It is cheap, and called before the pre-training, too. It raises ConfigError if a setting does not fit
        the backbone or the data.
        """
        ...

    def forward_passes(self, context: EvalContext) -> float:
        """Return the number of images that pass through the backbone; a backward pass counts as 2 more."""
        ...

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the metrics; record their settings by `context.record`."""
        ...
