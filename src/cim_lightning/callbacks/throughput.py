"""Images per second, and the share of time that training waits for data."""

import time
from collections import deque
from typing import Any

import lightning as L

from cim_lightning.cropping.batch import num_images

WINDOW = 50  # steps to average over


class Throughput(L.Callback):
    """Log `train/images_per_s`, over all devices, and `train/data_wait`, the share of time waited, 0..1.

    The wait is the time between two training batches, including transfer and cropping. Validation, saving a
    checkpoint and the first batch of an epoch do not count.
    """

    logged_metrics = ("train/images_per_s", "train/data_wait")

    def __init__(self) -> None:
        self.steps: deque[tuple[float, float, int]] = deque(maxlen=WINDOW)  # seconds, seconds waited, images
        self.ended: float | None = None  # end of the previous batch
        self.started = 0.0

    def _skip_interval(self, *args: Any, **kwargs: Any) -> None:
        self.ended = None

    on_train_epoch_start = on_validation_end = on_save_checkpoint = _skip_interval

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self.ended is not None:
            images = num_images(batch) * trainer.world_size
            self.steps.append((now - self.ended, self.started - self.ended, images))
            total, waited, images = (sum(column) for column in zip(*self.steps, strict=True))
            values = {"train/images_per_s": images / total, "train/data_wait": waited / total}
            metrics = getattr(pl_module, "step_metrics", None)  # of a Method
            (pl_module.log_dict if metrics is None else metrics.update)(values)
        self.ended = now
