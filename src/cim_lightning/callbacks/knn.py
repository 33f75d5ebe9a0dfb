"""While it trains: does the backbone tell classes apart, and has it collapsed?"""

from typing import Any

import lightning as L

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.features import FeatureSet, effective_rank, extract, spread
from cim_lightning.evaluation.knn import knn_accuracy


class OnlineKNN(L.Callback):
    """After some validations, colors at features of whole images (mean over the grid, and pooled).

    With labels on both sides: `val/knn` and `val/knn_pooled`, accuracy in 0..1. Always: `val/feature_std` and
    `val/effective_rank`, both of which fall towards their minimum when features collapse.

    Args:
        every_n_epochs: how often; the validation before training and the last one always.
        num_train: most training images to vote.
        num_val: most validation images to classify.
        k, temperature: see knn_accuracy.
    """

    def __init__(self, every_n_epochs: int, num_train: int, num_val: int, k: int, temperature: float):
        asked = {"every_n_epochs": every_n_epochs, "num_train": num_train, "num_val": num_val, "k": k}
        for name, value in asked.items():
            if value < 1:
                raise ConfigError(f"callbacks.knn.{name}={value}: at least 1; try 1, or ~callbacks.knn")
        self.every_n_epochs, self.num_train, self.num_val = every_n_epochs, num_train, num_val
        self.k, self.temperature = k, temperature

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        side = trainer.datamodule.view.size  # pyright: ignore
        pl_module.eval_backbone.check((side, side), "data.view_size")  # now, not after the first validation

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not self._due(trainer):
            return
        data = trainer.datamodule  # pyright: ignore

        def features(split: str, limit: int) -> FeatureSet:
            batches = data.center_crop_dataloader(split, limit)
            return extract(pl_module.eval_backbone, batches, data.cropping.normalize, pl_module.device)

        val = features("val", self.num_val)
        metrics = {"val/feature_std": spread(val.mean), "val/effective_rank": effective_rank(val.mean)}
        asked = val.labels >= 0
        train = features("train", self.num_train) if asked.any() else None
        if train is not None and (known := train.labels >= 0).any():
            for name, bank, queries in (
                ("val/knn", train.mean, val.mean),
                ("val/knn_pooled", train.pooled, val.pooled),
            ):
                vote = bank[known], train.labels[known], queries[asked], val.labels[asked]
                metrics[name] = knn_accuracy(*vote, self.k, self.temperature)
        pl_module.log_dict(metrics, sync_dist=True)  # as floats, which become tensors on the device

    def _due(self, trainer: L.Trainer) -> bool:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        done = trainer.global_step >= trainer.estimated_stepping_batches
        return last or done or (trainer.current_epoch + 1) % self.every_n_epochs == 0
