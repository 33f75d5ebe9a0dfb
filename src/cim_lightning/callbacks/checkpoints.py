"""`last.ckpt`: saved only where training can be taken up again to the bit."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

log = logging.getLogger(__name__)
ASK_DEVICES_EVERY = 20  # steps between two times that several devices agree whether to stop or save


class LastCheckpoint(Checkpoint):
    """Saves the whole run between optimizer steps: every few minutes, at the end of each epoch, when stopped.

    Inside a step, weights, running statistics and accumulated gradients belong to different moments. So a
    first Ctrl-C or SIGTERM waits for the end of the step under way; a second Ctrl-C, or an error, ends the
    run at once, and it goes on from the last save. Between an epoch's last step and its end lies validation,
    which a stop waits for too.

    A checkpoint of Lightning's says, by the differences of its counters, which hook it was saved in, and not
    every such place resumes exactly. On loading, the counters are made to say one of two things: so many
    batches into an epoch, or at the start of one.

    Args:
        folder: where `last.ckpt` is kept.
        every_minutes: time between two saves inside an epoch.
    """

    def __init__(self, folder: str, every_minutes: float):
        self.path = Path(folder) / "last.ckpt"
        self.seconds = every_minutes * 60
        self.saved_at = 0.0
        self.between_steps = False  # where the weights and all counters belong together
        self.asked: int | None = None  # the signal that asked for an end
        self.stopping: int | None = None  # the same, once all is saved

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        loop: Any = trainer.fit_loop
        if loop.epoch_loop.batch_progress.current.ready == 0:  # Lightning takes max_steps for half an epoch
            loop._restarting = loop.epoch_loop._restarting = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask)  # Lightning puts the old ones back

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        _stop(self.stopping, trainer)  # not before: Lightning logs a step after its last hook
        self.between_steps = False

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or loop.batch_progress.is_last_batch:
            return
        self.between_steps = True
        if trainer.world_size > 1 and trainer.global_step % ASK_DEVICES_EVERY:
            return
        due = time.monotonic() - self.saved_at >= self.seconds
        due, asked = trainer.strategy.broadcast((due, self.asked))  # what rank 0 decides
        if due or asked:
            self._save(trainer)
        self.stopping = asked

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)
        _stop(trainer.strategy.broadcast(self.asked), trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if self.between_steps and trainer.world_size == 1:  # a failed device's peers would wait for it
            self._save(trainer)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop = checkpoint["loops"]["fit_loop"]
        batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
        done = 0 if batches["is_last_batch"] else batches["current"]["processed"]
        for counter, count in ((batches["total"], batches["total"]["processed"]), (batches["current"], done)):
            counter.update(ready=count, started=count, processed=count, completed=count)
        for counter in epochs.values():
            ended = counter["started"] - (done > 0)
            counter.update(ready=counter["started"], processed=ended, completed=ended)
        batches["is_last_batch"] = False
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]

    def _ask(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.asked is not None:
            raise KeyboardInterrupt
        self.asked = number

    def _save(self, trainer: L.Trainer) -> None:
        self.between_steps = False
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()


def _stop(asked: int | None, trainer: L.Trainer) -> None:
    if asked is not None and trainer.is_global_zero:
        log.info("stopped after step %d, and saved: the same command goes on from there", trainer.global_step)
    if asked == signal.SIGINT:
        raise KeyboardInterrupt
    if asked is not None:
        raise SIGTERMException(128 + asked)  # the exit code
