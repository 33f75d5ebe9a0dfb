"""Summary of a run: `metrics.json`, its setup in `run.json`, and the table at the end."""

import logging
import platform
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from cim_lightning.atomic import update_json, write_json
from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.flops import Flops, flops_per_image
from cim_lightning.lightning_internals import validate_after_last_step
from cim_lightning.metric_registry import TABLE, before_after
from cim_lightning.versions import versions

log = logging.getLogger(__name__)
RESULTS = ("metrics.json", "backbone.json", "evaluation/metrics.json")  # files of a finished run
STATE = ("initial", "latest", "seconds", "images")


class RunSummary(L.Callback):
    """Record the first and the last validation and the cost of training, across interruptions.

    `metrics.json`, written at the end, has `initial/...` of the validation before training, `val/...` of the
    last one, `train/...` of the last logged step, and images, seconds (without validation) and peak memory of
    training. The setup (FLOPs per image, device, versions, git commit) is also in `run.json`, from the start.

    Args:
        folder: folder of both files.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.initial: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.seconds, self.images = 0.0, 0
        self.interval_start: float | None = None
        self.flops = Flops(0.0, 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self.flops = flops_per_image(pl_module, trainer.datamodule)  # pyright: ignore

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            update_json(self.folder / "run.json", {"setup": self._setup(trainer, pl_module)})

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self.initial = _metrics(trainer, "val/")
        self.interval_start = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        reset_peak(pl_module.device)
        if trainer.is_global_zero:
            for name in RESULTS:  # a finished run may train longer
                (self.folder / name).unlink(missing_ok=True)

    def on_train_batch_start(self, *args: Any) -> None:
        self.interval_start = self.interval_start or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.seconds += now - (self.interval_start or now)
        self.interval_start = now
        self.images += len(batch[1]) * trainer.world_size
        validate_after_last_step(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.latest |= _metrics(trainer, "val/", "train/")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.interrupted:
            return
        initial = {f"initial/{name.removeprefix('val/')}": value for name, value in self.initial.items()}
        cost = {
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "images_seen": self.images,
            "seconds": self.seconds,
            "images_per_s": self.images / max(self.seconds, 1e-9),
            "peak_memory_bytes": peak(pl_module.device),
        }
        # The first and the last validation are the same in a run without a step.
        metrics = initial | (self.latest or self.initial) | cost | self._setup(trainer, pl_module)
        write_json(self.folder / "metrics.json", metrics)
        log.info("\n%s\n", table(metrics))

    def _setup(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        data, on_gpu = trainer.datamodule, pl_module.device.type == "cuda"  # pyright: ignore
        device = torch.cuda.get_device_name(pl_module.device) if on_gpu else f"{platform.machine()} CPU"
        return {
            "train_images": len(data.splits.train),
            "images_per_step": data.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
            "forward_flops_per_image": self.flops.forward,
            "backward_flops_per_image": self.flops.backward,
            "precision": str(trainer.precision),
            "device": device,
            "devices": trainer.world_size,
        } | versions()


def table(metrics: dict[str, Any]) -> str:
    """Format a `metrics.json`: one row per metric, with the values before and after training."""
    lines = [f"{'':24}{'before':>10}{'after':>10}{'baseline':>15}"]
    for metric, *values in before_after(metrics):
        if TABLE in metric.places:
            before, after, baseline = ("" if value is None else f"{value:.3f}" for value in values)
            lines.append(f"{metric.title:24}{before:>10}{after:>10}{baseline:>15}")
    lines.append(
        f"{metrics['images_seen']:,} images in {metrics['seconds']:.0f} s of training "
        f"({metrics['images_per_s']:.3g} images/s on {metrics['device']})"
    )
    return "\n".join(lines)


def _metrics(trainer: L.Trainer, *prefixes: str) -> dict[str, Any]:
    return {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(prefixes)}
