"""The one place that touches Lightning's internals, for Lightning 2.6, which pyproject.toml pins.

They make a resumed run repeat the uninterrupted one, and every run validate after its last step.
"""

from typing import Any

import lightning as L


def batches_processed(trainer: L.Trainer) -> int:
    """Return the number of training batches since the start of the run, over all epochs."""
    loop: Any = trainer.fit_loop
    return loop.epoch_loop.batch_progress.total.processed


def is_mid_epoch_step(trainer: L.Trainer) -> bool:
    """Return whether the batch ended an optimizer step, but not the epoch."""
    loop: Any = trainer.fit_loop
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
    done = 0 if batches["is_last_batch"] else batches["current"]["processed"]
    for counter, count in ((batches["total"], batches["total"]["processed"]), (batches["current"], done)):
        counter.update(ready=count, started=count, processed=count, completed=count)
    for counter in epochs.values():
        ended = counter["started"] - (done > 0)
        counter.update(ready=counter["started"], processed=ended, completed=ended)
    batches["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
