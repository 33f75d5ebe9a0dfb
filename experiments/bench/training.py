"""Timed training steps of `cim-pretrain`, with views that are already in memory."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import numpy as np
import torch

from bench import interleave
from cim_lightning.api import Run, compose
from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.data.batch import Batch, Samples
from cim_lightning.flops import flops_per_image, images_to_count
from cim_lightning.lightning_internals import quiet

OFF = ("knn", "best", "last", "panels", "progress", "run_summary", "bad_files")
OVERRIDES = [
    "trainer.limit_val_batches=0",
    "+trainer.enable_checkpointing=false",
    "+trainer.enable_progress_bar=false",
    "logger=[]",
    *(f"callbacks.{name}=null" for name in OFF),
]


class RepeatedBatch:
    """A loader that yields the same batch of random views."""

    def __init__(self, run: Run, count: int, pinned: bool):
        size, pixels = run.method.batch_size, run.data.pixels
        generator = torch.Generator().manual_seed(0)
        shape = (size, pixels.channels, run.data.view.size, run.data.view.size)
        views = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        numbers, index = torch.arange(size), np.arange(size)
        tensors = [views, torch.zeros_like(numbers), numbers]
        tensors = [tensor.pin_memory() for tensor in tensors] if pinned else tensors
        self.batch, self.count = Batch(*tensors, Samples(0 * index, index, index)), count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.count)


@dataclass
class Clock(L.Callback):
    """Time of training steps: `rounds` samples, each of `steps` steps, after a warm-up."""

    device: torch.device
    warmup: int
    rounds: int
    steps: int
    started: tuple[float, float] = (0.0, 0.0)
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All training steps."""
        return self.warmup + self.rounds * self.steps

    @property
    def timing(self) -> interleave.Timing:
        """Milliseconds per step."""
        return interleave.Timing(*(interleave.Samples(tuple(times)) for times in (self.cpu, self.wall)))

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        done = trainer.global_step - self.warmup
        if done < 0 or done % self.steps:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.process_time(), time.perf_counter()
        if done == 0:
            reset_peak(self.device)
        else:
            self.cpu.append(1000 * (now[0] - self.started[0]) / self.steps)
            self.wall.append(1000 * (now[1] - self.started[1]) / self.steps)
        self.started = now


@dataclass(frozen=True)
class Steps:
    """Measured training steps."""

    timing: interleave.Timing  # per step
    batch_size: int
    flops: float  # per image, forward and backward
    memory: int  # peak in bytes, of the GPU if there is one

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch_size / self.timing.wall.median

    @property
    def tflops(self) -> float:
        """Operations of the networks in 10^12 per second."""
        return self.images_per_second * self.flops / 1e12


def train(
    *overrides: str,
    device: str,
    rounds: int,
    steps: int,
    warmup: int,
    in_memory: bool = True,
    change: Callable[[Run], object] = lambda run: None,
    callbacks: tuple[L.Callback, ...] = (),
) -> Steps:
    """Train some steps of a run of `cim-pretrain`, and return their time.

    Args:
        overrides: of `cim-pretrain`.
        device: "cuda" or "cpu".
        rounds, steps: samples of the time, and steps per sample.
        warmup: steps before, which compile the networks.
        in_memory: repeat one batch of random views; otherwise, the data of the run are loaded.
        change: changes the run before the training.
    """
    clock = Clock(torch.device(device), warmup, rounds, steps)
    length = [f"trainer.max_steps={clock.total}", "trainer.max_epochs=-1"]
    accelerator = f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}"
    with tempfile.TemporaryDirectory() as folder, quiet():
        settings = [*OVERRIDES, *overrides, *length, accelerator, "trainer.devices=1"]
        run = compose(*settings, f"output_dir={folder}")
        crops = run.data.dummy_batch(images_to_count(run.method.batch_size))
        flops = sum(flops_per_image(run.method, crops)) if in_memory else 0.0
        if in_memory:
            loader = RepeatedBatch(run, clock.total, device == "cuda")
            run.data.train_dataloader = lambda: loader  # pyright: ignore
        change(run)
        run.trainer.callbacks = [*run.trainer.callbacks, *callbacks, clock]  # pyright: ignore
        run.trainer.fit(run.method, run.data)
    return Steps(clock.timing, run.method.batch_size, flops, peak(clock.device))
