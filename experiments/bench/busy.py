"""The share of time in which a GPU computes, from a trace of its kernels."""

from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile

Interval = tuple[float, float]  # start and end


class BusyTime(L.Callback):
    """Traces some training steps.

    Args:
        start, steps: first traced step, and their number.
    """

    def __init__(self, start: int, steps: int = 5):
        self.start, self.steps, self.trace = start, steps, None
        self.intervals: list[Interval] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.start and pl_module.device.type == "cuda":
            self.trace = profile(activities=[ProfilerActivity.CUDA])
            self.trace.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        if self.trace is not None and trainer.global_step == self.start + self.steps:
            torch.cuda.synchronize()
            self.trace.stop()
            events = [event for event in self.trace.events() or [] if event.device_type.name == "CUDA"]
            self.intervals = [(event.time_range.start, event.time_range.end) for event in events]
            self.trace = None

    def idle(self) -> float:
        """Return the share of time without a kernel, from the first kernel to the last one, 0..1."""
        return 1 - busy_share(self.intervals)


def busy_share(intervals: Iterable[Interval]) -> float:
    """Return the share of the time from the first start to the last end that the intervals cover."""
    ordered = sorted(intervals)
    covered, end = 0.0, ordered[0][0]
    for start, stop in ordered:
        covered += max(stop - max(start, end), 0)
        end = max(end, stop)
    return covered / (end - ordered[0][0])
