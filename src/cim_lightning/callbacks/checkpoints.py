"""`last.ckpt`: saved only where training can resume exactly."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cim_lightning import lightning_internals

log = logging.getLogger(__name__)
SYNC_EVERY = 20  # steps after which several devices agree whether to save or to stop


class LastCheckpoint(Checkpoint):
    """Save the whole run every few minutes, at the end of each epoch and when stopped, always between steps.

    The first Ctrl-C or SIGTERM waits for the end of the step, or of the epoch in its last step. A second
    Ctrl-C or an error ends the run immediately; it resumes from the last save.

    Args:
        folder: folder of `last.ckpt`.
        every_minutes: time between two saves inside an epoch.
    """

    def __init__(self, folder: str, every_minutes: float):
        self.path = Path(folder) / "last.ckpt"
        self.seconds = every_minutes * 60
        self.saved_at = 0.0
        self.between_steps = False  # inside a step, weights and counters do not match
        self.received: int | None = None  # first signal
        self.stopping: int | None = None  # the same signal after the run is saved

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        lightning_internals.clear_restart_at_epoch_start(trainer)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)  # Lightning restores the previous handlers

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        _stop(self.stopping, trainer)  # only now, because Lightning logs a step after its last hook
        self.between_steps = False

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not lightning_internals.is_mid_epoch_step(trainer):
            return
        self.between_steps = True
        if trainer.world_size > 1 and trainer.global_step % SYNC_EVERY:
            return
        due = time.monotonic() - self.saved_at >= self.seconds
        due, received = trainer.strategy.broadcast((due, self.received))  # rank 0 decides
        if due or received:
            self._save(trainer)
        self.stopping = received

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)
        _stop(trainer.strategy.broadcast(self.received), trainer)

    def on_exception(self, trainer: L.Trainer, *args: Any) -> None:
        if self.between_steps and trainer.world_size == 1:  # the other devices would wait for a failed one
            self._save(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        lightning_internals.normalize_progress(checkpoint)

    def _on_signal(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def _save(self, trainer: L.Trainer) -> None:
        self.between_steps = False
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()


def _stop(number: int | None, trainer: L.Trainer) -> None:
    if number is None:
        return
    if trainer.is_global_zero:
        log.info("saved and stopped at step %d; run the same command to resume", trainer.global_step)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SIGTERMException(128 + number)  # the exit code
