"""Cost of the guard against steps that are not finite: CPU time of a training step with and without it.

One training on one thread; each step is of another variant, in random order, so that other load hits all
alike. "earlier" is the step of earlier versions: AdamW that is not fused, one norm for the log and one
for clipping. "without" has one norm and fused AdamW, but no guard. "guard" is the step of `cim-pretrain`.

Run: python experiments/bench_guard.py [STEPS] [OVERRIDE ...]
"""

import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import lightning as L
import torch

from cim_lightning.api import compose
from cim_lightning.callbacks.finite_guard import FiniteGuard
from cim_lightning.finite_step import FiniteStep, StepResult
from cim_lightning.lightning_internals import quiet
from cim_lightning.methods import method as method_module
from cim_lightning.models.target import EmaTarget

VARIANTS = ("earlier", "without", "guard")
WARM_UP = 6  # steps that are not measured
ABSENT = ("knn", "best", "last", "panels", "progress", "run_summary", "throughput")
RUN = [
    "backbone=vit_tiny_patch16",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.limit_val_batches=0",
    "+trainer.enable_checkpointing=false",
    "logger=[]",
    *(f"callbacks.{name}=null" for name in ABSENT),
]
update_target = EmaTarget.update


def check(self: FiniteStep, optimizer: Any, scaler: Any = None) -> StepResult:
    """Measure the norm of the gradients, and nothing else."""
    vars(optimizer).pop("found_inf", None)
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    return StepResult([], parameters, norm[None], norm, norm, [], None)


def clip_twice(result: StepResult, value: float | None, algorithm: str | None) -> None:
    """Clip gradients by a norm that is computed again."""
    if value:
        torch.nn.utils.clip_grad_norm_(result.parameters, value)


@contextlib.contextmanager
def step_of(variant: str, optimizer: Any) -> Iterator[None]:
    """Replace all parts of the guard in the block, unless the variant is "guard"."""
    for group in optimizer.param_groups:
        group["fused"] = variant != "earlier"
    with contextlib.ExitStack() as stack:
        replaced: list[tuple[Any, str, Any]] = []
        if variant != "guard":
            replaced += [
                (FiniteStep, name, lambda *args: None) for name in ("start_batch", "add_loss", "finish")
            ]
            replaced += [(FiniteStep, "check", check), (method_module, "propagate", lambda loss: loss)]
            replaced += [
                (EmaTarget, "update", lambda self, online, progress, _: update_target(self, online, progress))
            ]
            replaced += [(FiniteGuard, "on_train_batch_end", lambda *args: None)]
        if variant == "earlier":
            replaced += [(method_module, "clip_gradients", clip_twice)]
        for place in replaced:
            stack.enter_context(patch.object(*place))
        yield


class Start(L.Callback):
    """The first callback: chooses the variant of a step and starts the clock."""

    def __init__(self) -> None:
        self.stack, self.variant, self.started = contextlib.ExitStack(), "", 0.0
        self.times: dict[str, list[float]] = {name: [] for name in VARIANTS}

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step % len(VARIANTS) == 0:
            self.order = random.sample(VARIANTS, len(VARIANTS))
        self.variant = self.order[trainer.global_step % len(VARIANTS)]
        self.stack.enter_context(step_of(self.variant, trainer.optimizers[0]))
        self.started = time.process_time()


class Stop(L.Callback):
    """The last callback: stops the clock."""

    def __init__(self, start: Start) -> None:
        self.start = start

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        seconds = time.process_time() - self.start.started
        if trainer.global_step > WARM_UP:
            self.start.times[self.start.variant].append(seconds)
        self.start.stack.close()


def main(steps: int, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    start = Start()
    with tempfile.TemporaryDirectory() as folder, quiet():
        run = compose(*RUN, *overrides, f"trainer.max_steps={steps + WARM_UP}", f"output_dir={folder}")
        run.trainer.callbacks = [start, *run.trainer.callbacks, Stop(start)]
        run.trainer.fit(run.method, run.data)
    base = statistics.median(start.times["without"])
    for name, times in start.times.items():
        quartiles = statistics.quantiles(times, n=4)
        spread = (quartiles[2] - quartiles[0]) * 1e3
        median, ratio = statistics.median(times) * 1e3, statistics.median(times) / base
        print(f"{name:8} {median:8.1f} ms, IQR {spread:5.1f} ms, {ratio:.4f} of 'without'")
    paired = [g / w for g, w in zip(start.times["guard"], start.times["without"], strict=False)]
    print(f"median of guard / without in the same three steps: {statistics.median(paired):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150, sys.argv[2:])
