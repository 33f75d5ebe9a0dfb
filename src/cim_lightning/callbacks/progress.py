"""Progress bar with metrics and the time left."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from cim_lightning.metric_registry import BAR, shown_in

log = logging.getLogger(__name__)
LOG_EVERY = 30.0  # seconds between two log lines without a terminal


class Progress(TQDMProgressBar):
    """Lightning's progress bar with registered metrics on a terminal; a log line twice a minute elsewhere."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self.terminal = sys.stderr.isatty()
        self.started = self.logged = time.monotonic()
        self.first_step = 0
        if not self.terminal:
            self.disable()

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self.started, self.first_step = time.monotonic(), trainer.global_step

    def get_metrics(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        logged = {m.label: trainer.callback_metrics.get(f"train/{m.name}") for m in shown_in(BAR)}
        shown = {label: f"{value:.3g}" for label, value in logged.items() if value is not None}
        return shown | {"left": self._time_left(trainer)}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        if not self.terminal and trainer.is_global_zero and time.monotonic() - self.logged > LOG_EVERY:
            self.logged = time.monotonic()
            metrics = "  ".join(f"{k} {v}" for k, v in self.get_metrics(trainer, pl_module).items())
            log.info("step %d/%d  %s", trainer.global_step, trainer.estimated_stepping_batches, metrics)

    def _time_left(self, trainer: L.Trainer) -> str:
        done = trainer.global_step - self.first_step
        if done <= 0:
            return "?"
        remaining = trainer.estimated_stepping_batches - trainer.global_step
        return str(timedelta(seconds=round((time.monotonic() - self.started) / done * remaining)))
