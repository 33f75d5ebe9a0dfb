"""The progress bar: loss, skill, images a second, data wait, time to go."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

log = logging.getLogger(__name__)
SHOWN = {
    "train/loss": "loss",
    "train/skill": "skill",
    "train/images_per_s": "img/s",
    "train/data_wait": "wait",
}
LINES_EVERY = 30.0  # seconds between lines where there is no terminal to draw a bar on


class Progress(TQDMProgressBar):
    """Lightning's bar with five figures on a terminal; elsewhere a line of them twice a minute."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)  # each time, the device is waited for
        self.terminal = sys.stderr.isatty()
        self.begun = self.last_line = time.monotonic()
        self.first_step = 0
        if not self.terminal:
            self.disable()

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self.begun, self.first_step = time.monotonic(), trainer.global_step

    def get_metrics(
        self, trainer: L.Trainer, pl_module: Any
    ) -> dict[str, int | str | float | dict[str, float]]:
        values = trainer.callback_metrics
        figures: dict[str, Any] = {
            short: f"{values[name]:.3g}" for name, short in SHOWN.items() if name in values
        }
        return figures | {"left": self._left(trainer)}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        if not self.terminal and trainer.is_global_zero and time.monotonic() - self.last_line > LINES_EVERY:
            self.last_line = time.monotonic()
            figures = "  ".join(
                f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items()
            )
            log.info("step %d/%d  %s", trainer.global_step, trainer.estimated_stepping_batches, figures)

    def _left(self, trainer: L.Trainer) -> str:
        done = trainer.global_step - self.first_step
        if done <= 0:
            return "?"
        to_go = trainer.estimated_stepping_batches - trainer.global_step
        return str(timedelta(seconds=round((time.monotonic() - self.begun) / done * to_go)))
