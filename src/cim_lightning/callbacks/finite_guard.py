"""Record steps that are not finite, count them, and stop a run that does not recover."""

import functools
import logging
from collections import deque
from pathlib import Path
from typing import Any

import lightning as L

from cim_lightning.callbacks.nonfinite_records import NonfiniteRecords, Step, checkpoint, describe, to_host
from cim_lightning.checks import check_at_least
from cim_lightning.data.batch import Samples
from cim_lightning.errors import RunError
from cim_lightning.finite_step import StepResult
from cim_lightning.lightning_internals import batches_processed

log = logging.getLogger(__name__)
GPU_LAG = 2  # steps after which results are read from a GPU, which computes behind the host
MIN_SCALE = 1.0  # of the loss in fp16; gradients that overflow at a larger scale are no fault of the run
STATE = ("skipped", "in_a_row", "overflows", "first")  # attributes in a checkpoint
MAX_LINES = 10  # skipped steps that get a log line


class FiniteGuard(L.Callback):
    """Record the steps that a `Method` skips because they are not finite. Several in a row stop the run.

    For each, a JSON file has the images, losses and gradient norms; `replay` repeats it. Gradients that
    overflow in fp16 are not counted as long as the scale of the loss can fall. On a GPU, a result is read two
    steps later, so that the host does not wait.

    Args:
        folder: of the records.
        max_in_a_row: skipped steps in a row that stop the run.

    Raises:
        RunError: in training, after that many steps.
    """

    def __init__(self, folder: str, max_in_a_row: int = 10):
        check_at_least("max_in_a_row", max_in_a_row, 1)
        self.records, self.max_in_a_row = NonfiniteRecords(Path(folder)), max_in_a_row
        self.skipped, self.in_a_row, self.overflows = 0, 0, 0
        self.first = 0  # step of the streak
        self.lag = 0
        self.pending: deque[Step] = deque()
        self.batches: list[tuple[int, Samples | None]] = []  # of the current step
        self.last: StepResult | None = None
        self.trainer: L.Trainer | None = None

    def state_dict(self) -> dict[str, int]:
        self._read_pending(0)
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        vars(self).update({name: state_dict[name] for name in STATE})

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.trainer, self.last = trainer, pl_module.finite_step.result
        self.lag = GPU_LAG if pl_module.device.type == "cuda" else 0
        self.pending.clear()
        self.batches.clear()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        samples = getattr(getattr(trainer, "datamodule", None), "current", None)
        self.batches.append((batches_processed(trainer) - 1, samples))
        result = pl_module.finite_step.result
        if result is self.last:
            return  # the step has more batches
        position = trainer.global_step - 1, trainer.current_epoch
        self.pending.append(Step(*position, self.batches, result, *to_host(result)))
        self.last, self.batches = result, []
        self._read_pending(self.lag)
        self._stop_if_stuck(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._read_pending(0)
        self._stop_if_stuck(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        if self.skipped:
            total, folder = trainer.global_step, self.records.folder
            log.info("skipped %d of %d steps, which were not finite; see %s", self.skipped, total, folder)
        if self.overflows:
            log.info("skipped %d steps whose gradients overflowed in fp16", self.overflows)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.pending.clear()  # a failed GPU cannot be read

    def _read_pending(self, count: int) -> None:
        """Read all steps but the last `count`."""
        while len(self.pending) > count:
            step = self.pending.popleft()
            if step.copied is not None:
                step.copied.synchronize()
            if step.scalars[1]:
                self.in_a_row = 0
            elif self._is_overflow(step):
                self.overflows += 1
            else:
                self._record(step)

    def _is_overflow(self, step: Step) -> bool:
        """Return whether gradients overflowed in fp16, which a smaller scale of the loss mends."""
        if self.trainer is None or step.result.scale is None:
            return False
        overflow = bool(step.scalars[3:].isfinite().all()) and float(step.scalars[2]) > MIN_SCALE
        return self.trainer.strategy.reduce_boolean_decision(overflow, all=True)  # losses differ

    def _record(self, step: Step) -> None:
        trainer: Any = self.trainer
        self.first = self.first if self.in_a_row else step.number
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        record = describe(step, trainer, later_steps=len(self.pending))
        weights = functools.partial(checkpoint, trainer) if trainer.is_global_zero else None
        file = self.records.write(self.first, record, trainer.global_rank, weights)
        if trainer.is_global_zero and self.skipped <= MAX_LINES:
            loss, norm = record["batches"][-1]["loss"], record["grad_norm"]
            more = "; later ones are only counted" if self.skipped == MAX_LINES else ""
            line = "skipped step %d: loss %g, gradient norm %g%s%s"
            log.warning(line, step.number, loss, norm, f"; see {file}" if file else "", more)

    def _stop_if_stuck(self, trainer: L.Trainer) -> None:
        if self.in_a_row < self.max_in_a_row:
            return
        clipping = (
            "smaller gradients (gradient_clip_val)" if trainer.gradient_clip_val else "gradient_clip_val=1"
        )
        advice = ["a lower learning rate (base_lr)", clipping]
        if str(trainer.precision) != "32-true":
            advice.append("precision=32-true")
        raise RunError(
            f"stopped: {self.in_a_row} steps in a row, from step {self.first} on, had a loss or gradient "
            f"that is not finite; none of them changed the weights or last.ckpt; try a new run with "
            f"{', or '.join(advice)}; {self.records.folder} has the images and norms of these steps"
        )


def find_guard(trainer: L.Trainer) -> FiniteGuard | None:
    """Return the guard of a trainer, if it has one."""
    return next((c for c in getattr(trainer, "callbacks", ()) if isinstance(c, FiniteGuard)), None)


def in_streak(trainer: L.Trainer) -> bool:
    """Return whether the last step was skipped because it was not finite."""
    guard = find_guard(trainer)
    return guard is not None and guard.in_a_row > 0
