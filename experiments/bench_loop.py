"""Host time of a step around an empty method: Lightning with all callbacks and metrics.csv, and a bare loop.

The method has four parameters, and ten metrics besides its loss. The bare loop has the same loss and
optimizer, and nothing else. Every tenth step is logged.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from bench.command_line import main
from bench.interleave import speedup
from bench.ledger import Claim, Entry, Report
from bench.within_fit import LIGHTNING, Interleaved
from torch.utils.data import DataLoader

from cim_lightning.api import compose
from cim_lightning.callbacks import run_summary
from cim_lightning.cropping.resize import ImageBatch
from cim_lightning.flops import Flops
from cim_lightning.lightning_internals import quiet
from cim_lightning.methods.method import Method

METRICS = [f"metric_{i}" for i in range(10)]
BARE = "bare PyTorch loop"
REPEATS = 50  # steps per sample
OVERRIDES = ["experiment=demo", "trainer=cpu", "trainer.max_epochs=-1", "trainer.limit_train_batches=1.0"]
WITHOUT_VALIDATION = [
    "trainer.limit_val_batches=0",
    *(f"callbacks.{c}=null" for c in ("knn", "panels", "best")),
]


class Empty(Method):
    """A method without a network."""

    batch_type = ImageBatch

    def __init__(self, other: Method):
        super().__init__(other.backbone, other.optim, other.batch_size)
        self.backbone.requires_grad_(False)
        self.weight = torch.nn.Parameter(torch.ones(4))

    def compute_losses(self, crops: ImageBatch) -> dict[str, torch.Tensor]:
        loss = self.weight.square().sum()
        return {"loss": loss, **dict.fromkeys(METRICS, loss.detach())}


def bare_step() -> Any:
    """Return a function that takes one step."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], fused=True)

    def step() -> None:
        optimizer.zero_grad()
        weight.square().sum().backward()
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        optimizer.step()

    return step


def measure(args: argparse.Namespace) -> Report:
    torch.set_num_threads(args.threads)
    loops = Interleaved({BARE: bare_step()}, args.rounds, 2 if args.smoke else REPEATS, warmup=3)
    with tempfile.TemporaryDirectory() as folder, quiet():
        run = compose(
            *OVERRIDES, *WITHOUT_VALIDATION, f"trainer.max_steps={loops.steps}", f"output_dir={folder}"
        )
        batch = ImageBatch(torch.zeros(run.method.batch_size, 3, 8, 8))
        run.trainer.callbacks = [loops, *run.trainer.callbacks]
        # One batch for all steps, so that no time is that of data.
        steps: Any = [batch] * loops.steps
        with patch.object(run_summary, "flops_per_image", lambda *inputs: Flops(1, 1)):
            run.trainer.fit(Empty(run.method), DataLoader(steps, batch_size=None), [])
        assert (Path(folder) / "metrics.csv").exists() or args.smoke
    timings = loops.timings()
    bare, ours = timings[BARE], timings[LIGHTNING]
    stage = "step around an empty method"
    return Report(
        entries=[
            Entry(stage, BARE, bare, unit="step"),
            Entry(stage, "Lightning, all callbacks, csv", ours, unit="step", baseline=BARE),
        ],
        claims=[
            Claim("CPU time of a step around an empty method", ours.cpu.median, "at most", 3.0, "ms", 2.5),
            Claim("the same, in steps of a bare loop", 1 / speedup(bare, ours), "at most", 5.0, "", 8.0),
        ],
    )


if __name__ == "__main__":
    main("loop", measure, __doc__ or "")
