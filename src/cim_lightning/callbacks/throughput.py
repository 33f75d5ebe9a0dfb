"""How fast training goes, and how much of the time it waits for data."""

import time
from collections import deque
from typing import Any

import lightning as L

WINDOW = 50  # steps that a figure averages over


class Throughput(L.Callback):
    """Logs `train/images_per_s`, over all devices, and `train/data_wait`, the share of time waited, 0..1.

    Waiting is the time between the end of one training batch and the start of the next, transfer and
    cropping included. Validation, saving a checkpoint and the first batch of an epoch count to neither.
    """

    def __init__(self) -> None:
        self.steps: deque[tuple[float, float, int]] = deque(maxlen=WINDOW)
        self.ended: float | None = None
        self.started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ended = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ended = None

    def on_save_checkpoint(self, *args: Any) -> None:
        self.ended = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self.ended is not None:
            self.steps.append(
                (now - self.ended, self.started - self.ended, len(batch[1]) * trainer.world_size)
            )
            whole, waited, images = (sum(column) for column in zip(*self.steps, strict=True))
            pl_module.log_dict({"train/images_per_s": images / whole, "train/data_wait": waited / whole})
        self.ended = now
