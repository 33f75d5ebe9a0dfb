"""The one place that touches Lightning's internals, for Lightning 2.6, which pyproject.toml pins.

They make a resumed run repeat the uninterrupted one, every run validate after its last step, and processes
start before the first training.
"""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor

# Logs why it kills all processes of a run.
OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"
# Warnings of Lightning about intended behavior, and one of torch that Lightning causes.
IGNORED_WARNINGS = (
    r"Found \d+ module\(s\) in eval mode",  # EMA targets, and frozen backbones
    r"You're resuming from a checkpoint that ended before the epoch ended",  # exact in this project
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed",  # the run moved, or starts from the checkpoint of another run
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # of a small data set
    r"Total length of `list` across ranks is zero",  # a training without validation
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's notices, and its warnings about intended behavior. Also a decorator."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    states = [(logger.level, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logging.getLogger(OBSERVER).setLevel(logging.INFO)
        if logging.root.handlers:  # messages would appear twice
            logger.handlers = []
    try:
        with warnings.catch_warnings():
            for warning in IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", warning)
            yield
    finally:
        for logger, (level, handlers) in zip(loggers, states, strict=True):
            logger.setLevel(level)
            logger.handlers = handlers


def start_processes(trainer: L.Trainer) -> bool:
    """Start the processes of all devices and connect them; later Trainers of this process use them.

    Lightning starts a process by repeating the command of this one. Without this, it does so at the first
    training.

    Returns:
        Whether all processes run; False for a strategy that copies this process for each training.
    """
    strategy: Any = trainer.strategy
    if isinstance(strategy.launcher, _SubprocessScriptLauncher):
        strategy.launcher.launch(strategy.setup_environment, trainer=trainer)
        return True
    return trainer.world_size == 1


def kill_processes(trainer: L.Trainer) -> None:
    """Kill the processes of the other devices that Lightning started from this one."""
    launcher: Any = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def leave_signals(trainer: L.Trainer) -> L.Trainer:
    """Stop a Trainer from handling signals, and return it; `stop_signals` handles them for the command.

    Lightning would end a validation on SIGTERM in the middle, with exit code 0, and save inside the handler
    of Slurm's signals.
    """
    connector: Any = trainer._signal_connector
    connector.register_signal_handlers = lambda: None
    return trainer


def syncs_batchnorm(trainer: L.Trainer) -> bool:
    """Return whether batch normalization has the statistics of all devices."""
    return getattr(trainer.strategy, "_layer_sync", None) is not None


def batches_processed(trainer: L.Trainer) -> int:
    """Return the number of training batches since the start of the run, over all epochs."""
    loop: Any = trainer.fit_loop
    return loop.epoch_loop.batch_progress.total.processed


def logs_step(trainer: L.Trainer) -> bool:
    """Return whether the metrics of this batch are used: by loggers, or by callbacks after the batch.

    The answer is final in `on_train_batch_end` of the module, after that of the callbacks, which may stop the
    training. A callback may monitor a training metric in a validation, or at the end of an epoch.
    """
    loop: Any = trainer.fit_loop
    last = trainer.is_last_batch or trainer.global_step == trainer.max_steps
    return last or _writes_step(trainer) or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def log_step(trainer: L.Trainer, metrics: dict[str, Tensor]) -> None:
    """Do what `LightningModule.log` does for values of one training step, in a tenth of the time.

    Args:
        metrics: on the host. Loggers get them in the steps that they log, and callbacks always.
    """
    connector: Any = trainer._logger_connector
    connector._callback_metrics.update(metrics)
    loop: Any = trainer.fit_loop.epoch_loop
    if _writes_step(trainer) and not loop._should_accumulate():
        connector.log_metrics(metrics)


def _writes_step(trainer: L.Trainer) -> bool:
    connector: Any = trainer._logger_connector
    return connector.should_update_logs or bool(getattr(trainer, "fast_dev_run", False))


def is_mid_epoch_step(trainer: L.Trainer) -> bool:
    """Return whether the batch ended an optimizer step, but neither the epoch nor the training."""
    loop: Any = trainer.fit_loop
    if trainer.should_stop or trainer.global_step == trainer.max_steps:  # the validation is still missing
        return False
    return not (loop.epoch_loop._should_accumulate() or loop.epoch_loop.batch_progress.is_last_batch)


def clear_restart_at_epoch_start(trainer: L.Trainer) -> None:
    """Let a resumed run start an epoch. Lightning would continue an epoch that max_steps ended."""
    loop: Any = trainer.fit_loop
    if loop.epoch_loop.batch_progress.current.ready == 0:
        loop._restarting = loop.epoch_loop._restarting = False


def validate_after_last_step(trainer: L.Trainer) -> None:
    """Stop at max_steps through `should_stop`, which validates; mid-epoch, max_steps alone does not."""
    if trainer.global_step == trainer.max_steps:
        trainer.should_stop = True


def normalize_progress(checkpoint: dict[str, Any]) -> None:
    """Set the counters of a checkpoint to a mid-epoch state or to the start of an epoch.

    Lightning's own counters depend on the hook that saved the checkpoint.
    """
    loop = checkpoint["loops"]["fit_loop"]
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
    fetched, done = batches["current"]["ready"], batches["current"]["processed"]
    if batches["is_last_batch"] and done == fetched:  # the last batch is fetched before it is trained
        done = 0
    for counter, count in ((batches["total"], batches["total"]["processed"]), (batches["current"], done)):
        counter.update(ready=count, started=count, processed=count, completed=count)
    for counter in epochs.values():
        ended = counter["started"] - (done > 0)
        counter.update(ready=counter["started"], processed=ended, completed=ended)
    batches["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]


def rescale_batches(trainer: L.Trainer, before: int, now: int, batches_per_epoch: int) -> None:
    """Fit the counters of the checkpoint that is being loaded to batches of another size.

    Args:
        before, now: images per batch, of all devices. The images of an optimizer step are the same.
        batches_per_epoch: that Lightning trains on. If as many are trained already, the epoch has ended.
    """
    connector: Any = trainer._checkpoint_connector
    progress = connector._loaded_checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counter in (progress["total"], progress["current"]):
        counter.update({name: count * before // now for name, count in counter.items()})
    if progress["current"]["processed"] >= batches_per_epoch:
        progress["is_last_batch"] = True
        progress["current"]["ready"] = progress["current"]["processed"]  # see normalize_progress
