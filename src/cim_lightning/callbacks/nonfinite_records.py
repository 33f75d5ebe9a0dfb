"""Records of steps that are not finite, one JSON file per step, and the weights with which to replay them."""

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from cim_lightning.atomic import replacing, write_json
from cim_lightning.data.batch import Samples
from cim_lightning.data.reading import image_name
from cim_lightning.finite_step import StepResult

log = logging.getLogger(__name__)
WEIGHTS = "weights.ckpt"
MAX_STREAKS = 3  # folders that stay; the oldest is removed first


@dataclass
class Step:
    """An optimizer step whose result may still be on its way to the host."""

    number: int  # as in metrics.csv
    epoch: int
    batches: list[tuple[int, Samples | None]]  # number since the start of the run, and images
    result: StepResult
    scalars: Tensor  # norm, applied, scale, losses; on the host
    norms: Tensor  # on the host
    copied: torch.cuda.Event | None  # None: the tensors are complete


def to_host(result: StepResult) -> tuple[Tensor, Tensor, torch.cuda.Event | None]:
    """Start to copy norm, applied, scale and losses, and the norms of the parameters, to the host."""
    scale = result.applied if result.scale is None else result.scale
    values = (result.norm, result.applied, scale, *result.losses)
    scalars = torch.stack([value.to(result.norm.dtype) for value in values])  # not all devices have float64
    host = [tensor.to("cpu", non_blocking=True) for tensor in (scalars, result.norms)]
    copied = None
    if scalars.device.type == "cuda":
        copied = torch.cuda.Event()
        copied.record()
    return host[0], host[1], copied


def describe(step: Step, trainer: L.Trainer, later_steps: int) -> dict[str, Any]:
    """Return the record of a step: plain values.

    Args:
        step: its tensors are complete.
        trainer: that trained it.
        later_steps: steps that were started since, before the weights are saved; above 0 on a GPU only.
    """
    module: Any = trainer.lightning_module
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    source = getattr(getattr(trainer, "datamodule", None), "splits", (None,))[0]
    batches = []
    for (number, samples), loss in zip(step.batches, step.scalars[3:].tolist(), strict=True):
        batch: dict[str, Any] = {"number": number, "loss": loss}
        if samples is not None:
            indices = samples.indices.tolist()
            batch |= {"epochs": samples.epochs.tolist(), "indices": indices, "seeds": samples.seeds.tolist()}
            batch |= {"images": [image_name(source, index) for index in indices]}
        batches.append(batch)
    parameters = [names[id(parameter)] for parameter in step.result.parameters]
    return {
        "step": step.number,
        "epoch": step.epoch,
        "later_steps": later_steps,
        "lr": step.result.lrs,
        "precision": str(trainer.precision),
        "scale": None if step.result.scale is None else float(step.scalars[2]),
        "rank": trainer.global_rank,
        "devices": trainer.world_size,
        "device": trainer.strategy.root_device.type,
        "grad_norm": float(step.scalars[0]),
        "grad_norms": dict(zip(parameters, step.norms.tolist(), strict=True)),
        "batches": batches,
    }


def checkpoint(trainer: L.Trainer) -> dict[str, Any]:
    """Return the weights and settings of a method in the form of Lightning's checkpoints."""
    module = trainer.lightning_module
    content: dict[str, Any] = {
        "global_step": trainer.global_step,
        "pytorch-lightning_version": L.__version__,
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(content)
    return content


class NonfiniteRecords:
    """Writes `step-<first step of the streak>/step-<step>.json`, and `weights.ckpt` beside it.

    A streak is a sequence of skipped steps, in which the weights do not change. The newest three stay. A full
    disk does not end training: the record is missing then, and a line says so.

    Args:
        folder: of the streaks; its parent must exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(
        self, first: int, record: dict[str, Any], rank: int, weights: Callable[[], dict[str, Any]] | None
    ) -> Path | None:
        """Write a record.

        Args:
            first: first step of the streak.
            record: plain values, with the entry "step".
            rank: of this process, which has its own images.
            weights: returns a checkpoint of the method; called if the streak has none yet. None: another
                process writes it.

        Returns:
            The file; None if it could not be written.
        """
        streak = self.folder / _name(first)
        file = streak / f"{_name(record['step'])}{f'-rank{rank}' if rank else ''}.json"
        try:
            self.folder.mkdir(exist_ok=True)
            streak.mkdir(exist_ok=True)
            write_json(file, to_json(record))
            if weights is not None and not (streak / WEIGHTS).exists():
                for old in sorted(self.folder.glob("step-*"))[:-MAX_STREAKS]:
                    shutil.rmtree(old, ignore_errors=True)
                with replacing(streak / WEIGHTS) as temporary:
                    torch.save(weights(), temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("step %d cannot be recorded in %s: %s", record["step"], streak, reason)
            return None
        return file


def to_json(value: Any) -> Any:
    """Return a value with numbers that are not finite as text, which JSON lacks. `float` reads both."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _name(step: int) -> str:
    return f"step-{step:08d}"
