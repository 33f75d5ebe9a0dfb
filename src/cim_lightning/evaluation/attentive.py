"""Attentive probe: a linear classifier of the cells of a frozen grid to which a learned query attends."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cim_lightning.checks import check_at_least, check_each_above, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.attentive_module import AttentiveModule
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.fitting import fit, trainer_factory
from cim_lightning.evaluation.frozen_grids import (
    FrozenGridsData,
    extract_grids,
    grid_bytes,
    grid_loader,
    image_loader,
    train_batches,
)
from cim_lightning.evaluation.requirements import needs_labels
from cim_lightning.metric_registry import COLUMN, Metric
from cim_lightning.rng import fork_rng


@dataclass
class AttentiveProbe:
    """Accuracy of an attentive classifier, see AttentiveClassifier.

    Features of methods that predict parts of an image, such as MAE and CIM, may be linearly separable in some
    cells and not in their mean. A share of the training images is held out; the classifier with the learning
    rate that is best on them is evaluated on the validation images. It is not trained again on all images.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("grid", "attention over the grid", None, (COLUMN,), True, "attentive probe", 1, unit="%"),
    )

    uses_trainer: ClassVar[bool] = True

    lrs: list[float]  # learning rates to choose from
    epochs: int
    batch_size: int  # images per optimizer step, over all devices
    weight_decay: float
    val_fraction: float  # share of the training images that is held out, above 0 and below 1
    max_cache_gb: float  # feature maps are stored if they are smaller, else computed in every epoch
    num_train: int | None  # maximum number of images to train on; None: all
    num_val: int | None  # maximum number of images to classify; None: all

    def __post_init__(self) -> None:
        check_each_above("lrs", self.lrs, 0, suggest=[0.001])
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_share("val_fraction", self.val_fraction, zero=False, one=False)
        check_at_least("max_cache_gb", self.max_cache_gb, 0)
        check_at_least("num_train", self.num_train, 2)
        check_at_least("num_val", self.num_val, 1)

    def applies(self, context: EvalContext) -> str | None:
        reason = needs_labels(context)
        if reason is None:
            self._split(context)
        return reason

    def forward_passes(self, context: EvalContext) -> float:
        train, val = context.num_images("train", self.num_train), context.num_images("val", self.num_val)
        epochs = 1 if self._fits(context, train) else self.epochs
        return train * epochs + val

    def __call__(self, context: EvalContext) -> dict[str, float]:
        """Return the accuracy in % as "grid"."""
        classes = context.data.splits.train.classes
        held_out, rest, parts = self._split(context)
        batch_size = min(self.batch_size, len(rest)) // parts
        if stored := self._fits(context, len(rest)):
            load = functools.partial(grid_loader, extract_grids(context, rest))
        else:
            load = functools.partial(image_loader, context, rest)
        data = FrozenGridsData(load, len(rest), batch_size, context.seed)
        with fork_rng(context.seed):
            module = AttentiveModule(context.backbone, len(classes), self.lrs, self.weight_decay)
            view = str(context.preprocessing)
            identity = {"probe": self, "classes": classes, "images": len(rest), "view": view}
            fit(module, data, context, "attentive", identity, max_epochs=self.epochs)
        held_out_accuracies = module.accuracies(train_batches(context, held_out))
        best = int(np.argmax(held_out_accuracies))
        accuracies = module.accuracies(context.batches("val", self.num_val))
        context.record(
            features="grid",
            lr=self.lrs[best],
            held_out_accuracy=held_out_accuracies[best],
            epochs=self.epochs,
            batch_size=batch_size * parts,
            weight_decay=self.weight_decay,
            stored_feature_maps=stored,
            train_images=len(rest),
            held_out_images=len(held_out),
            val_images=context.num_images("val", self.num_val),
        )
        return {"grid": accuracies[best]}

    def _split(self, context: EvalContext) -> tuple[list[int], list[int], int]:
        """Return the held-out images, the training images, and the batches of an optimizer step.

        Raises:
            ConfigError: there are too few images, or a batch has none.
        """
        indices = context.data.labeled_indices(self.num_train)
        if len(indices) < 2:
            raise ConfigError(f"{len(indices)} labeled training image(s); at least 2 are needed")
        indices = np.random.default_rng(context.seed).permutation(indices).tolist()
        count = min(max(round(self.val_fraction * len(indices)), 1), len(indices) - 1)
        parts = trainer_factory(context).parts_per_step()
        if len(indices) - count < parts:
            given = len(indices) - count
            raise ConfigError(f"{given} training images are too few for {parts} devices or batches")
        if self.batch_size < parts:
            rule = "must have one image for each device and accumulated batch"
            raise ConfigError("batch_size", self.batch_size, rule, suggest=parts)
        return indices[:count], indices[count:], parts

    def _fits(self, context: EvalContext, num_images: int) -> bool:
        return grid_bytes(context, num_images) <= self.max_cache_gb * 1e9
