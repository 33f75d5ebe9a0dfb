"""A training step of CIM without data: ours under Lightning, a tight loop, and one exemplar at a time.

ViT-S/16 with batches of 8 views and 6 exemplars of 64 pixels, context of 160 pixels; one batch for all
steps. The tight loop has the same networks, loss, clipping, optimizer and target in a plain function. The
last variant encodes each context once, and encodes and decodes one exemplar per image at a time. "Lightning"
has no callbacks here; `bench_loop.py` measures those. The slopes are of a small ViT: time and memory of saved
activations for each further exemplar.
"""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from bench.command_line import main
from bench.interleave import interleave, speedup
from bench.ledger import Claim, Entry, Report
from bench.within_fit import LIGHTNING, Interleaved
from torch.utils.data import DataLoader

from cim_lightning.api import compose
from cim_lightning.cropping.exemplars import Crops
from cim_lightning.lightning_internals import quiet
from cim_lightning.methods.cim import CIM
from cim_lightning.models.backbone import Features

TIGHT, SINGLY = "tight loop", "one exemplar at a time"
SMALL = ["backbone=vit_micro_patch8", "data.view_size=64", "cropping=half", "decoder=cross_attention_small"]
EXEMPLARS = (1, 2, 4, 8)
QUIET = [
    *(
        "trainer=cpu",
        "logger=[]",
        "trainer.max_epochs=-1",
        "trainer.max_steps=1000",
        "trainer.limit_val_batches=0",
    ),
    *("+trainer.enable_checkpointing=false", "+trainer.enable_progress_bar=false"),
    *(f"callbacks.{name}=null" for name in ("last", "best", "panels", "knn", "run_summary", "progress")),
]


def build(folder: str, *overrides: str) -> Any:
    """Return a run of CIM on generated images, without files."""
    return compose("data=synthetic", *QUIET, *overrides, f"output_dir={folder}")


def encode(method: CIM, crops: Crops) -> Features:
    """Return the target's features of the contexts, which have no gradient."""
    return method.target(method.backbone, method.backbone.normalize(crops.context))


def losses(method: CIM, crops: Crops, context: Features) -> torch.Tensor:
    """Return the loss of CIM, from its networks alone."""
    exemplars = method.backbone(method.backbone.normalize(crops.exemplars).flatten(0, 1))
    size = (crops.maps.shape[-2], crops.maps.shape[-1])
    logits = method.decoder(context, exemplars, size)  # pyright: ignore[reportOptionalCall]
    loss, _ = method.map_objective.loss(logits.float(), crops.maps.float())
    return loss * crops.maps.shape[1]


def together(method: CIM, crops: Crops) -> None:
    losses(method, crops, encode(method, crops)).backward()


def singly(method: CIM, crops: Crops) -> None:
    """Run a backward pass for one exemplar per image at a time."""
    context = encode(method, crops)
    for k in range(crops.maps.shape[1]):
        part = crops._replace(exemplars=crops.exemplars[:, k : k + 1], maps=crops.maps[:, k : k + 1])
        losses(method, part, context).backward()


def step_of(method: CIM, crops: Crops, backward: Callable[[CIM, Crops], None]) -> Callable[[], None]:
    """Return a function that takes one step, with clipping, fused AdamW and an update of the target."""
    optimizer, schedule = method.optim(method, method.batch_size, 1000)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step() -> None:
        backward(method, crops)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        method.target.update(method.backbone, 0.5)

    return step


def whole_steps(args: argparse.Namespace) -> Report:
    """Measure the three variants on ViT-S/16."""
    size = ["data.batch_size=8", *(SMALL if args.smoke else ["backbone=vit_small_patch16"])]
    with tempfile.TemporaryDirectory() as folder, quiet():
        methods = [build(folder, *size).method for _ in range(2)]
        run = build(folder, *size, f"trainer.max_steps={2 + args.rounds}")
        crops: Any = run.data.dummy_batch(8)
        steps = {
            TIGHT: step_of(methods[0], crops, together),
            SINGLY: step_of(methods[1], crops, singly),
        }
        loops = Interleaved(steps, args.rounds, repeats=1, warmup=1)
        assert loops.steps == run.trainer.max_steps
        run.trainer.callbacks = [loops, *run.trainer.callbacks]
        run.trainer.fit(run.method, DataLoader(cast(Any, [crops] * loops.steps), batch_size=None), [])
    timings, stage = loops.timings(), "training step, ViT-S/16"
    named = {"ours under Lightning": LIGHTNING, TIGHT: TIGHT, SINGLY: SINGLY}
    entries = [
        Entry(stage, name, timings[key], 8, "image", None if key == TIGHT else TIGHT)
        for name, key in named.items()
    ]
    tight, single = (speedup(timings[name], timings[LIGHTNING]) for name in (TIGHT, SINGLY))
    claims = [
        Claim("speed of ours, in that of the tight loop", tight, "at least", 0.95, "", 0.98),
        Claim("speed of ours, in that of one exemplar at a time", single, "at least", 1.2, "", 1.2),
    ]
    return Report(entries, claims)


def saved_bytes(method: CIM, crops: Crops) -> int:
    """Return the bytes of the tensors that are saved for the backward pass."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = losses(method, crops, encode(method, crops))
    del loss
    weights = {p.untyped_storage().data_ptr() for p in method.parameters()}
    return sum(size for pointer, size in storages.items() if pointer not in weights)


def slopes(args: argparse.Namespace) -> Report:
    """Measure time and memory of a small ViT at several numbers of exemplars K."""
    entries, counts, work, memory = [], EXEMPLARS, {}, {}
    with tempfile.TemporaryDirectory() as folder, quiet():
        for k in counts:
            run = build(folder, *SMALL, "data.batch_size=8", f"cropping.num_exemplars={k}")
            crops: Any = run.data.dummy_batch(8)
            memory[k] = saved_bytes(run.method, crops) / 1e6
            work[f"K = {k}"] = step_of(run.method, crops, together)
    timings = interleave(work, args.rounds, repeats=1 if args.smoke else 5)
    stage, notes, claims = "training step, small ViT, by the number of exemplars", [], []
    for k in counts:
        values = {"saved activations, MB": memory[k]}
        entries.append(Entry(stage, f"K = {k}", timings[f"K = {k}"], 8, "image", values=values))
    times = [timings[f"K = {k}"].cpu.median / 8 for k in counts]
    for what, unit, numbers in (("time", "ms", times), ("memory", "MB", [memory[k] for k in counts])):
        slope, start = np.polyfit(counts, numbers, 1)
        error = np.abs(slope * np.array(counts) + start - numbers).max() / max(numbers)
        notes.append(f"{what.capitalize()}: {start:.3g} {unit} and {slope:.3g} {unit} for each exemplar.")
        claims.append(Claim(f"{what} is affine in K: largest error", float(error), "at most", 0.05, "", 0.03))
    return Report(entries, claims, notes)


def measure(args: argparse.Namespace) -> Report:
    torch.set_num_threads(args.threads)
    reports = [slopes(args), whole_steps(args)]
    return Report(
        *(
            [item for report in reports for item in getattr(report, name)]
            for name in ("entries", "claims", "notes")
        )
    )


if __name__ == "__main__":
    main("step", measure, __doc__ or "")
