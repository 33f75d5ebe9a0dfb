"""What a run amounts to: `metrics.json` and the table at its end."""

import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from cim_lightning.atomic import atomic_write
from cim_lightning.callbacks.memory import peak, reset_peak
from cim_lightning.flops import Flops, flops_per_image
from cim_lightning.versions import versions

log = logging.getLogger(__name__)
ENDS = ("metrics.json", "backbone.json", "evaluation/metrics.json")  # what says that a run came to its end
TABLE = {
    "knn": "k-NN accuracy",
    "knn_pooled": "k-NN accuracy, pooled",
    "skill": "correlation skill",
    "iou": "IoU",
    "pointing": "pointing accuracy",
    "effective_rank": "effective rank",
}


class RunSummary(L.Callback):
    """Keeps the first and the last validation and what training cost, over interruptions too.

    `metrics.json` is flat: `initial/...` is the untrained backbone's validation, `val/...` the last one,
    `train/...` the last logged step, and beside them images_seen, seconds and images_per_s of training
    without validation, flops an image (see flops_per_image), peak_memory_bytes, device, versions and the git
    commit. It appears at the end; what is known before the first step lies in `begun.json` from then on.

    Args:
        folder: where to write it.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.initial: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.seconds = 0.0
        self.images = 0
        self.since: float | None = None
        self.cost = Flops(0.0, 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("initial", "latest", "seconds", "images")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            pl_module.setup(stage)  # whose turn comes later: some are not whole before it
            self.cost = flops_per_image(pl_module, trainer.datamodule)  # pyright: ignore

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self.initial = _values(trainer, "val/")
        self.since = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        reset_peak(pl_module.device)
        if trainer.is_global_zero:
            for name in ENDS:  # of a run that goes on beyond its end
                (self.folder / name).unlink(missing_ok=True)
            _keep(self.folder / "begun.json", self._known(trainer, pl_module))

    def on_train_batch_start(self, *args: Any) -> None:
        self.since = self.since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.seconds += now - (self.since or now)
        self.since = now
        self.images += len(batch[1]) * trainer.world_size
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # which makes Lightning validate, inside an epoch too

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.latest |= _values(trainer, "val/") | _values(trainer, "train/")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.interrupted:
            return
        metrics = {f"initial/{name.removeprefix('val/')}": value for name, value in self.initial.items()}
        metrics |= self.latest or self.initial  # the same, where no step was taken
        metrics |= {
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "images_seen": self.images,
            "seconds": self.seconds,
            "images_per_s": self.images / max(self.seconds, 1e-9),
            "peak_memory_bytes": peak(pl_module.device),
        } | self._known(trainer, pl_module)
        _keep(self.folder / "metrics.json", metrics)
        log.info("\n%s\n", table(metrics))

    def _known(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        """What does not depend on how training goes."""
        data: Any = trainer.datamodule  # pyright: ignore
        return {
            "train_images": len(data.splits.train),
            "images_per_step": data.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
            "forward_flops_per_image": self.cost.forward,
            "backward_flops_per_image": self.cost.backward,
            "precision": str(trainer.precision),
            "device": _device(pl_module.device),
            "devices": trainer.world_size,
        } | versions()


def table(metrics: dict[str, Any]) -> str:
    """What an untrained backbone could do, the trained one, and the constant map, in columns."""
    lines = [f"{'':24}{'before':>10}{'after':>10}{'constant map':>15}"]
    for name, title in TABLE.items():
        if f"val/{name}" in metrics:
            constant = 0.0 if name == "skill" else metrics.get(f"val/{name}_constant")  # skill: by definition
            cells = [metrics.get(f"initial/{name}"), metrics[f"val/{name}"], constant]
            widths = (10, 10, 15)
            row = "".join(
                f"{'' if c is None else f'{c:.3f}':>{w}}" for c, w in zip(cells, widths, strict=True)
            )
            lines.append(f"{title:24}{row}")
    lines.append(
        f"{metrics['images_seen']:,} images in {metrics['seconds']:.0f} s of training "
        f"({metrics['images_per_s']:.3g} images/s on {metrics['device']})"
    )
    return "\n".join(lines)


def _keep(path: Path, numbers: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(numbers, indent=2) + "\n")


def _values(trainer: L.Trainer, prefix: str) -> dict[str, float]:
    return {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(prefix)}


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
