"""Timing of the training steps of a Lightning Trainer, with other loops between them in the same process."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L

from bench.interleave import Samples, Timing

LIGHTNING = "Lightning"


class Interleaved(L.Callback):
    """Alternates rounds of the trainer's own steps with rounds of other variants, in random order.

    It must be the first callback. `steps` is the number of steps that the trainer must be able to take.

    Args:
        variants: by name; each call is one step.
        rounds: samples per variant.
        repeats: steps per sample.
        warmup: steps of each variant before the first round.
    """

    def __init__(self, variants: Mapping[str, Callable[[], Any]], rounds: int, repeats: int, warmup: int = 3):
        self.variants, self.repeats, self.warmup = dict(variants), repeats, warmup
        self.steps = warmup + rounds * repeats + 1
        self.order = random.Random(0)
        self.samples: dict[str, list[tuple[float, float]]] = {n: [] for n in (*self.variants, LIGHTNING)}
        self.started = (0.0, 0.0)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step - self.warmup
        if step < 0 or step % self.repeats:
            return
        if step == 0:
            for work in self.variants.values():
                for _ in range(self.warmup):
                    work()
        else:
            self._stop(LIGHTNING)
        if trainer.global_step + 1 < self.steps:
            for name in self.order.sample([*self.variants], len(self.variants)):
                self._start()
                for _ in range(self.repeats):
                    self.variants[name]()
                self._stop(name)
            self._start()

    def timings(self) -> dict[str, Timing]:
        """Return the time per step of every variant."""
        return {
            name: Timing(*(Samples(tuple(values)) for values in zip(*samples, strict=True)))
            for name, samples in self.samples.items()
        }

    def _start(self) -> None:
        self.started = time.process_time(), time.perf_counter()

    def _stop(self, name: str) -> None:
        now = time.process_time(), time.perf_counter()
        cpu, wall = (1000 * (b - a) / self.repeats for a, b in zip(self.started, now, strict=True))
        self.samples[name].append((cpu, wall))
