"""`last.ckpt` and `previous.ckpt`: saved only where training can resume exactly."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from cim_lightning import lightning_internals, stop_signals
from cim_lightning.callbacks.finite_guard import in_streak
from cim_lightning.checkpoint_files import LAST
from cim_lightning.checks import check_at_least
from cim_lightning.loggers.protocols import KeepsRows
from cim_lightning.stop_signals import Stopped

SYNC_EVERY = 20  # steps after which several devices agree whether to save or to stop
STEP, VALIDATION, EPOCH = (f"the end of this {part}" for part in ("step", "validation", "epoch"))


class LastCheckpoint(Checkpoint):
    """Save the whole run every few minutes, at the end of each epoch and when stopped, always between steps.

    A signal waits for the end of the step, and inside a validation for the end of the epoch. A second signal
    or an error ends the run immediately; it resumes from the last save. While steps are skipped because they
    are not finite, only a signal saves. Before a save, the loggers write their rows to disk. The file becomes
    `previous.ckpt` at the next save (see AtomicCheckpointIO).

    Args:
        folder: folder of `last.ckpt`.
        every_minutes: time between two saves inside an epoch; 0: a save after every step.
    """

    def __init__(self, folder: str, every_minutes: float):
        check_at_least("every_minutes", every_minutes, 0)
        self.path = Path(folder) / LAST
        self.seconds = every_minutes * 60
        self.saved_at = 0.0
        self.between_steps = False  # inside a step, weights and counters do not match
        self.epoch_ended = False
        self.installed = False  # whether this callback handles the signals, because no command does

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        lightning_internals.clear_restart_at_epoch_start(trainer)
        self.installed = stop_signals.install(trainer.is_global_zero)
        if trainer.ckpt_path is None:
            stop_signals.set_outcome("nothing was saved yet; run the same command to start again")
            return
        outcome = f"training resumes from step {trainer.global_step}; run the same command"
        stop_signals.set_outcome(outcome)
        for logger in trainer.loggers:
            if isinstance(logger, KeepsRows):
                logger.drop_rows(trainer.global_step)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_epoch(trainer, due=not in_streak(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        # Only now, because Lightning logs a step after its last hook.
        if self.between_steps and (trainer.world_size == 1 or trainer.global_step % SYNC_EVERY == 0):
            due = time.monotonic() - self.saved_at >= self.seconds
            self._save_if_needed(trainer, due and not in_streak(trainer))
        self.between_steps = False
        stop_signals.defer(STEP)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.between_steps = lightning_internals.is_mid_epoch_step(trainer)
        stop_signals.defer(STEP, waits_end=self.between_steps and trainer.world_size == 1)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            stop_signals.defer(VALIDATION)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            stop_signals.defer(EPOCH)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_ended = self.between_steps = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_epoch(trainer)
        self._end_training()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        if self.between_steps and trainer.world_size == 1:  # the other devices would wait for a failed one
            self._save(trainer)
        if trainer.world_size > 1 and trainer.is_global_zero and stop_signals.received() is not None:
            lightning_internals.kill_processes(trainer)  # they may wait for this one
        if self.installed and isinstance(exception, Stopped):
            stop_signals.report("training", exception)
        self._end_training()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        lightning_internals.normalize_progress(checkpoint)

    def _end_epoch(self, trainer: L.Trainer, due: bool = True) -> None:
        """Save after an epoch; Lightning logs its metrics after `on_train_epoch_end`."""
        if self.epoch_ended:
            self._save_if_needed(trainer, due)
        self.epoch_ended = False

    def _save_if_needed(self, trainer: L.Trainer, due: bool) -> None:
        """Save if it is time to. Save and stop if any device received a signal; all devices do the same."""
        number = stop_signals.received() or 0
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            mine = torch.tensor([due and trainer.is_global_zero, number], dtype=torch.int32, device=device)
            due, number = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        if due or number:
            self._save(trainer)
        if trainer.world_size == 1:
            number = stop_signals.received()  # maybe during the save
        if number:
            stopped = Stopped(number)
            if not trainer.is_global_zero:  # launchers kill the first process when another one fails
                stopped.code = 0
            raise stopped

    def _save(self, trainer: L.Trainer) -> None:
        self.between_steps = False
        with stop_signals.deferred("the end of the save"):
            for logger in trainer.loggers:
                logger.save()
                if isinstance(logger, KeepsRows):
                    logger.sync()
            trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()
        step = trainer.global_step
        stop_signals.set_outcome(f"saved at step {step} in {self.path}; run the same command to resume")

    def _end_training(self) -> None:
        stop_signals.defer(None)
        if self.installed:
            stop_signals.uninstall()
            self.installed = False


def save_now(trainer: L.Trainer) -> bool:
    """Save `last.ckpt`, if training is between two steps. All devices must call this.

    Returns:
        Whether it was saved; if not, the run resumes from its last save.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastCheckpoint) and callback.between_steps:
            callback._save(trainer)
            return True
    return False
