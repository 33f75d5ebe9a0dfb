"""Summary of a run: `metrics.json`, its setup in `run.json`, and the table at the end."""

import logging
import math
import platform
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from cim_lightning.atomic import update_json, write_json
from cim_lightning.callbacks.finite_guard import find_guard
from cim_lightning.callbacks.peak_memory import peak, reset_peak
from cim_lightning.cropping.batch import num_images
from cim_lightning.flops import Flops, flops_per_image, images_to_count
from cim_lightning.lightning_internals import validate_after_last_step
from cim_lightning.metric_registry import TABLE, before_after, declared
from cim_lightning.versions import versions

log = logging.getLogger(__name__)
RESULTS = ("metrics.json", "backbone.json", "evaluation/metrics.json")  # files of a finished run
STATE = ("initial", "latest", "seconds", "images", "epochs")


class RunSummary(L.Callback):
    """Record the first and the last validation and the cost of training, across interruptions.

    `metrics.json`, written at the end, has `initial/...` of the validation before training, `val/...` of the
    last one, `train/...` of the last logged step, and images, seconds (without validation) and peak memory of
    training. The setup (FLOPs per image, device, versions, git commit) is also in `run.json`, from the start,
    with the metrics that the method declares, for reports.

    Args:
        folder: folder of both files.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.initial: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.seconds, self.images, self.epochs = 0.0, 0, 0
        self.interval_start: float | None = None
        self.flops: Flops | None = None

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update({name: state_dict[name] for name in STATE if name in state_dict})

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        data = _image_data(trainer)
        if stage == "fit" and data is not None:
            self.flops = flops_per_image(pl_module, data.dummy_batch(images_to_count(pl_module.batch_size)))

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._write_setup(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self.initial = _metrics(trainer, "val/")
        self.interval_start = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        reset_peak(pl_module.device)
        if trainer.is_global_zero:
            for name in RESULTS:  # a finished run may train longer
                (self.folder / name).unlink(missing_ok=True)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.flops is None:  # a data loader without ImageData
            self.flops = flops_per_image(pl_module, pl_module.unpack(batch)[0])
            self._write_setup(trainer, pl_module)
        self.interval_start = self.interval_start or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.seconds += now - (self.interval_start or now)
        self.interval_start = now
        self.images += num_images(batch) * trainer.world_size
        validate_after_last_step(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.latest |= _metrics(trainer, "val/", "train/")
        # The last one may be incomplete. Lightning forgets it on resume.
        self.epochs = trainer.current_epoch + 1

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.interrupted:
            return
        data = _image_data(trainer)
        initial = {f"initial/{name.removeprefix('val/')}": value for name, value in self.initial.items()}
        cost = {
            "steps": trainer.global_step,
            "epochs": self.epochs,
            "images_seen": self.images,
            "seconds": self.seconds,
            "images_per_s": self.images / max(self.seconds, 1e-9),
            "skipped_steps": guard.skipped if (guard := find_guard(trainer)) else 0,
            "bad_images": images.count() if (images := getattr(data, "bad_images", None)) else 0,
            "peak_memory_bytes": peak(pl_module.device),
        }
        # The first and the last validation are the same in a run without a step.
        measured = _without_nonfinite(initial | (self.latest or self.initial))
        metrics = measured | cost | self._setup(trainer, pl_module)
        write_json(self.folder / "metrics.json", metrics)
        log.info("\n%s\n", table(metrics))

    def _write_setup(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            metrics = [metric.to_dict() for metric in declared()]
            content = {"setup": self._setup(trainer, pl_module), "metrics": metrics}
            update_json(self.folder / "run.json", content)

    def _setup(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        data, on_gpu = _image_data(trainer), pl_module.device.type == "cuda"
        device = torch.cuda.get_device_name(pl_module.device) if on_gpu else f"{platform.machine()} CPU"
        return {
            "train_images": data and len(data.splits.train),
            "images_per_step": pl_module.global_batch_size,
            "forward_flops_per_image": self.flops and self.flops.forward,
            "backward_flops_per_image": self.flops and self.flops.backward,
            "precision": str(trainer.precision),
            "device": device,
            "devices": trainer.world_size,
        } | versions()


def table(metrics: dict[str, Any]) -> str:
    """Format a `metrics.json`: one row per metric, with the values before and after training."""
    lines = [f"{'':24}{'before':>10}{'after':>10}{'baseline':>15}"]
    for metric, *values in before_after(metrics):
        if TABLE in metric.places:
            before, after, baseline = ("" if value is None else metric.text(value) for value in values)
            lines.append(f"{metric.title:24}{before:>10}{after:>10}{baseline:>15}")
    lines.append(
        f"{metrics['images_seen']:,} images in {metrics['seconds']:.0f} s of training "
        f"({metrics['images_per_s']:.3g} images/s on {metrics['device']})"
    )
    return "\n".join(lines)


def _image_data(trainer: L.Trainer) -> Any:
    """Return the trainer's ImageData; None if it trains on other data loaders."""
    data = getattr(trainer, "datamodule", None)
    return data if hasattr(data, "dummy_batch") else None


def _without_nonfinite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Return metrics with null instead of NaN and infinity, which JSON lacks, after a warning."""
    if lost := [name for name, value in metrics.items() if not math.isfinite(value)]:
        advice = "try a lower learning rate, or fp32"
        log.warning("not finite, and null in metrics.json: %s; %s", ", ".join(lost), advice)
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _metrics(trainer: L.Trainer, *prefixes: str) -> dict[str, Any]:
    return {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(prefixes)}
