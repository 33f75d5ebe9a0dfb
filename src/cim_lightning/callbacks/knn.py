"""Online k-NN accuracy and collapse metrics of the backbone."""

from typing import Any

import lightning as L

from cim_lightning import checks
from cim_lightning.callbacks.validation_schedule import is_due
from cim_lightning.evaluation.features import FeatureSet, effective_rank, extract, spread
from cim_lightning.evaluation.knn import knn_accuracy


class OnlineKNN(L.Callback):
    """Log k-NN accuracy and collapse metrics of center crops after validations.

    `val/knn` (mean over the grid) and `val/knn_pooled` are accuracies, 0..1. They need labels of training and
    validation images. `val/feature_std` and `val/effective_rank` need none, and fall when features collapse.

    Args:
        every_n_epochs: epochs between two measurements; see is_due.
        num_train, num_val: maximum number of training images that vote, and of validation images.
        k, temperature: see knn_accuracy.
    """

    def __init__(self, every_n_epochs: int, num_train: int, num_val: int, k: int, temperature: float):
        counts = {"every_n_epochs": every_n_epochs, "num_train": num_train, "num_val": num_val, "k": k}
        for name, value in counts.items():
            checks.check_at_least(name, value, 1)
        self.every_n_epochs, self.num_train, self.num_val = every_n_epochs, num_train, num_val
        self.k, self.temperature = k, temperature

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        side = trainer.datamodule.view.size  # pyright: ignore
        pl_module.eval_backbone.check_size((side, side), "view_size")  # before training

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not is_due(trainer, self.every_n_epochs):
            return
        data = trainer.datamodule  # pyright: ignore

        def features(split: str, limit: int) -> FeatureSet:
            batches = data.center_crop_dataloader(split, limit)
            return extract(pl_module.eval_backbone, batches, data.cropping.normalize, pl_module.device)

        val = features("val", self.num_val)
        metrics = {"val/feature_std": spread(val.mean), "val/effective_rank": effective_rank(val.mean)}
        labeled = val.labels >= 0
        train = features("train", self.num_train) if labeled.any() else None
        if train is not None and (voting := train.labels >= 0).any():
            pairs = {"val/knn": (train.mean, val.mean), "val/knn_pooled": (train.pooled, val.pooled)}
            for name, (bank, queries) in pairs.items():
                votes = bank[voting], train.labels[voting], queries[labeled], val.labels[labeled]
                metrics[name] = knn_accuracy(*votes, self.k, self.temperature)
        pl_module.log_dict(metrics, sync_dist=True)  # floats, which Lightning moves to the device
