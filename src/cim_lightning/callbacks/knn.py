"""Online k-NN accuracy and collapse metrics of the backbone."""

from typing import Any

import lightning as L

from cim_lightning.callbacks.validation_schedule import is_due
from cim_lightning.checks import check_above, check_at_least
from cim_lightning.errors import ConfigError, RunError
from cim_lightning.evaluation.features import (
    FeatureSet,
    NonfiniteFeaturesError,
    effective_rank,
    extract,
    spread,
)
from cim_lightning.evaluation.knn import knn_accuracies, log_few_neighbors


class OnlineKNN(L.Callback):
    """Log k-NN accuracy and collapse metrics of centered squares after validations.

    `val/knn` (mean over the grid) and `val/knn_pooled` are accuracies in %. They need labels of training and
    validation images. `val/feature_std` and `val/effective_rank` need none, and fall when features collapse.

    Args:
        every_n_epochs: epochs between two measurements; see is_due.
        num_train, num_val: maximum number of training images that vote, and of validation images.
        k, temperature: see knn_accuracies.
    """

    logged_metrics = ("val/knn", "val/knn_pooled", "val/feature_std", "val/effective_rank")

    def __init__(self, every_n_epochs: int, num_train: int, num_val: int, k: int, temperature: float):
        check_at_least("every_n_epochs", every_n_epochs, 1)
        check_at_least("num_train", num_train, 1)
        check_at_least("num_val", num_val, 1)
        check_at_least("k", k, 1)
        check_above("temperature", temperature, 0, suggest=0.07)
        self.every_n_epochs, self.num_train, self.num_val = every_n_epochs, num_train, num_val
        self.k, self.temperature = k, temperature

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check the data and the image size before training.

        Raises:
            ConfigError: the data module has no images without training crops, or their size does not fit.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "eval_dataloader") or not hasattr(data, "images"):
            raise ConfigError(
                "OnlineKNN needs whole images and labels; pass an ImageData (or a data module with its "
                "eval_dataloader, images and view) to the trainer, or remove the callback"
            )
        if stage == "fit":
            log_few_neighbors("k", self.k, data, self.num_train)
        pl_module.eval_backbone.check_size((data.view.size, data.view.size), "view_size")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the metrics.

        Raises:
            RunError: a feature is not finite, or exceeds the range of fp16.
        """
        if not is_due(trainer, self.every_n_epochs):
            return
        processes = {"rank": trainer.global_rank, "world_size": trainer.world_size}

        def features(split: str, limit: int) -> FeatureSet:
            data: Any = trainer.datamodule  # pyright: ignore
            batches, count = data.eval_dataloader(split, limit, **processes), len(data.images(split))
            try:
                return extract(pl_module.eval_backbone, batches, pl_module.device, min(limit, count))
            except NonfiniteFeaturesError as error:
                raise RunError(
                    f"stopped at step {trainer.global_step}: the features of the {split} images are not "
                    "finite; try a new run with a lower learning rate (base_lr), or precision=32-true"
                ) from error

        val = features("val", self.num_val)
        metrics = {"val/feature_std": spread(val.mean), "val/effective_rank": effective_rank(val.mean)}
        labeled = val.labels >= 0
        train = features("train", self.num_train) if labeled.any() else None
        if train is not None and (voting := train.labels >= 0).any():
            pairs = {"val/knn": (train.mean, val.mean), "val/knn_pooled": (train.pooled, val.pooled)}
            for name, (bank, queries) in pairs.items():
                votes = bank[voting], train.labels[voting], queries[labeled], val.labels[labeled]
                accuracies = knn_accuracies(*votes, [self.k], self.temperature, pl_module.device)
                metrics[name] = accuracies[self.k]
        pl_module.log_dict(metrics, sync_dist=True)  # floats, which Lightning moves to the device
