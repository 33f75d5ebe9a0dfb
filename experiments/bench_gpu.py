"""Speed on one GPU: cropping, training steps, memory, and training from archives. About 10 minutes.

The share of the peak is the operations of the networks per second, as a share of those of a product of
matrices in the same run. Without a GPU, `--smoke` runs every part on the CPU at a tiny size.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench.busy import BusyTime
from bench.command_line import main
from bench.gpu_claims import claims
from bench.interleave import interleave
from bench.ledger import Entry, Report, merge
from bench.sample_archive import make_archive
from bench.time_limit import run_part
from bench.training import OVERRIDES, Steps, train

from cim_lightning.api import Run, compose
from cim_lightning.lightning_internals import quiet

TINY = [
    *("backbone=vit_micro_patch8", "data.view_size=32", "data.batch_size=2", "data.source.num_train=8"),
    *("backbone.kwargs.depth=1", "backbone.kwargs.embed_dim=32"),
]
TINY_PARTS = {
    "cim": [
        *("cropping=small", "cropping.context_size=32", "cropping.exemplar_size=16"),
        "decoder=cross_attention_small",
    ],
    "mae": ["decoder.width=32", "decoder.depth=1", "decoder.num_heads=2"],
    "moco_v3": ["method.head.hidden_dim=32"],
    "dino": ["cropping.local_crop.size=16", "method.head.hidden_dim=32", "method.head.out_dim=64"],
}
CIM = {"CIM, ViT-B/16": "vit_base_patch16", "CIM, ViT-S/16": "vit_small_patch16"}
OTHERS = {"CIM, ResNet-50": ("cim", "resnet50")}
OTHERS |= {name: (name, "vit_base_patch16") for name in ("mae", "simmim", "moco_v3", "dino")}
LIMITS = {"peak": 40, "cropping": 60, "CIM, ViT-B/16": 150, "CIM, ViT-S/16": 80, "archives": 90}
LIMIT = 60  # seconds of the other parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512], help="batch sizes to try")
    parser.add_argument("--only", default="", help="run the parts with this text in their name")


def device_of(args: argparse.Namespace) -> str:
    if not args.smoke and torch.cuda.device_count() == 0:  # does not start CUDA, so processes can be forked
        raise SystemExit("bench_gpu.py needs a GPU; use --smoke to try it on a CPU")
    return "cpu" if args.smoke else "cuda"


def synchronize(device: str) -> Callable[[], object]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def measure_peak(args: argparse.Namespace) -> Report:
    """Measure the products of square matrices."""
    device = device_of(args)
    side, dtype = (64, torch.float32) if args.smoke else (8192, torch.bfloat16)
    a = torch.randn(side, side, device=device, dtype=dtype)
    repeats = 1 if args.smoke else 20
    timing = interleave({"": lambda: a @ a}, args.rounds, repeats, synchronize=synchronize(device))[""]
    values = {"TFLOP/s": 2 * side**3 / timing.wall.median / 1e9}
    name = f"{side} x {side}, {str(dtype).removeprefix('torch.')}"
    return Report([Entry("matrix product", name, timing, clock="wall", values=values)])


def measure_cropping(args: argparse.Namespace, view: list[str]) -> Report:
    """Measure the cropping of views that are on the device."""
    device, count = device_of(args), 2 if args.smoke else 256
    with tempfile.TemporaryDirectory() as folder, quiet():
        run = compose(*OVERRIDES, *view, f"output_dir={folder}", "trainer=cpu")
    size = run.data.view.size
    views = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, device=device)
    seeds = torch.arange(count, device=device)
    work = {"as in training": lambda: run.data.cropping(views, seeds)}
    repeats = 1 if args.smoke else 10
    timing = interleave(work, args.rounds, repeats, warmup=3, synchronize=synchronize(device))
    return Report([Entry("cropping", name, t, count, "image", clock="wall") for name, t in timing.items()])


def settings(args: argparse.Namespace, method: str, backbone: str, compiled: bool = True) -> list[str]:
    """Return the overrides of a method."""
    if args.smoke:
        return [f"method={method}", *TINY, *TINY_PARTS.get(method, [])]
    return [f"method={method}", f"backbone={backbone}", f"compile={str(compiled).lower()}"]


def length_of(args: argparse.Namespace, steps: int, warmup: int) -> dict[str, int]:
    """Return the arguments of `train` for the number of steps."""
    if args.smoke:
        return {"rounds": 1, "steps": 1, "warmup": 1}
    return {"rounds": args.rounds, "steps": steps, "warmup": warmup}


def step_entry(stage: str, variant: str, steps: Steps, **more: Any) -> Entry:
    values = {"TFLOP/s": steps.tflops, "peak memory, GB": steps.memory / 1e9, "batch": steps.batch_size}
    return Entry(stage, variant, steps.timing, steps.batch_size, "image", clock="wall", values=values, **more)


def measure_steps(
    args: argparse.Namespace, name: str, method: str, backbone: str, batches: list[int]
) -> Report:
    """Measure training steps at several batch sizes, until the memory is too small."""
    overrides, entries, notes = settings(args, method, backbone), [], []
    length = length_of(args, steps=5, warmup=5)
    for batch in batches:
        size = [] if args.smoke else [f"data.batch_size={batch}"]
        try:
            steps = train(*overrides, *size, device=device_of(args), **length)
        except torch.OutOfMemoryError:
            notes.append(f"{name}: a batch of {batch} images does not fit into memory.")
            break
        entries.append(step_entry("training step", f"{name}, batch {batch}", steps))
    return Report(entries, notes=notes)


def per_exemplar(run: Run) -> None:
    """Replace the loss by the mean of losses of single exemplars, each with its own pass of the context."""
    whole = run.method.compute_losses

    def compute(crops: Any, *labels: Any) -> dict[str, torch.Tensor]:
        losses = []
        for k in range(crops.exemplars.shape[1]):
            part = slice(k, k + 1)
            boxes = crops.boxes
            one = type(boxes)(boxes.center[:, part], boxes.size[:, part], boxes.angle[:, part], boxes.view)
            flipped = None if crops.flipped is None else crops.flipped[:, part]
            fields = {"exemplars": crops.exemplars[:, part], "maps": crops.maps[:, part], "boxes": one}
            losses.append(whole(crops._replace(**fields, flipped=flipped), *labels)["loss"])
        return {"loss": torch.stack(losses).mean()}

    run.method.compute_losses = compute  # pyright: ignore


def measure_baseline(args: argparse.Namespace) -> Report:
    """Measure a step that encodes every exemplar and its context separately, in fp32 and not compiled."""
    overrides = [*settings(args, "cim", "vit_base_patch16", False), "trainer.precision=32-true"]
    size = [] if args.smoke else ["data.batch_size=64"]
    length = length_of(args, steps=1, warmup=2)
    steps = train(*overrides, *size, device=device_of(args), **length, change=per_exemplar)
    return Report([step_entry("training step", "per exemplar, fp32, ViT-B/16", steps)])


def measure_archives(args: argparse.Namespace) -> Report:
    """Measure the training of ViT-S/16 from archives of JPEG images of 256 pixels, with all of Lightning.

    The warm-up uses up the batches that the workers load while the networks are compiled. There are as many
    images as steps need in one epoch, and no decoded image stays in memory.
    """
    device, length = device_of(args), length_of(args, steps=10, warmup=60)
    busy = BusyTime(start=length["warmup"] + length["steps"])
    with tempfile.TemporaryDirectory() as folder:
        root = args.data or make_archive(Path(folder), 8 if args.smoke else 49_152)
        overrides = settings(args, "cim", "vit_small_patch16")
        overrides = [text for text in overrides if not text.startswith("data.source")]
        data = ["data=webdataset", f"data.root={root}", "data.val=none", "data.cache=none"]
        workers = ["data.num_workers=0"] if args.smoke else []
        steps = train(
            *data, *overrides, *workers, device=device, **length, in_memory=False, callbacks=(busy,)
        )
    values = {"images/s": steps.images_per_second, "batch": steps.batch_size}
    if device == "cuda":
        values["GPU idle, %"] = 100 * busy.idle()
    stage, variant = "training from archives", "CIM, ViT-S/16"
    return Report(
        [Entry(stage, variant, steps.timing, steps.batch_size, "image", clock="wall", values=values)]
    )


def measure(args: argparse.Namespace) -> Report:
    device_of(args)
    parts: dict[str, Callable[[], Report]] = {"peak": functools.partial(measure_peak, args)}
    parts["cropping"] = functools.partial(measure_cropping, args, settings(args, "cim", "vit_small_patch16"))
    for name, backbone in CIM.items():
        parts[name] = functools.partial(
            measure_steps, args, name, "cim", backbone, args.batches[: 1 if args.smoke else None]
        )
    parts["archives"] = functools.partial(measure_archives, args)
    parts["per exemplar"] = functools.partial(measure_baseline, args)
    for name, (method, backbone) in OTHERS.items():
        parts[name] = functools.partial(measure_steps, args, name, method, backbone, args.batches[:1])
    limits = {name: None if args.smoke else LIMITS.get(name, LIMIT) for name in parts}
    reports = [run_part(name, work, limits[name]) for name, work in parts.items() if args.only in name]
    report = merge(reports)
    return Report(report.entries, claims(list(report.entries)), report.notes)


if __name__ == "__main__":
    main("gpu", measure, __doc__, add_arguments)
