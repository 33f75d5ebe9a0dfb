"""`TrainerFactory`: builds the Lightning Trainer of every training inside an evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from cim_lightning.callbacks.checkpoints import LastCheckpoint
from cim_lightning.callbacks.progress import Progress
from cim_lightning.callbacks.step_seed import StepSeed
from cim_lightning.callbacks.throughput import Throughput
from cim_lightning.checkpoint_io import AtomicCheckpointIO
from cim_lightning.lightning_internals import leave_signals, quiet, syncs_batchnorm

SAVE_EVERY_MINUTES = 5.0
# What Lightning must leave to the data module and to the evaluator.
FIXED: dict[str, Any] = {"use_distributed_sampler": False, "num_sanity_val_steps": 0}
# Attributes of a Trainer, except its length, that change the final weights.
RESULT_SETTINGS = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "precision",
    "world_size",
)


@dataclass
class TrainerFactory:
    """Build Trainers with the configured devices, precision, accumulation and clipping.

    Each has the checkpoint, step seed, throughput and progress callbacks of pre-training.
    """

    trainer: Callable[..., L.Trainer]  # lightning.Trainer with its configured arguments
    loggers: Callable[[Path], list[Logger]] = field(default=lambda folder: [])  # of a training, by its folder

    def for_training(self, folder: Path, seed: int, **length: int) -> L.Trainer:
        """Return a Trainer for one training.

        Args:
            folder: of the checkpoint `last.ckpt` and of the logged metrics.
            seed: of the random numbers of each step.
            length: max_epochs or max_steps.
        """
        callbacks = [StepSeed(seed), LastCheckpoint(str(folder), SAVE_EVERY_MINUTES), Throughput()]
        unlimited = {"max_epochs": -1, "max_steps": -1}
        return self._build(folder, callbacks, logger=self.loggers(folder), **unlimited | length)

    def for_validation(self) -> L.Trainer:
        """Return a Trainer without loggers, to measure a trained network."""
        return self._build(None, [], logger=False, enable_checkpointing=False)

    def parts_per_step(self) -> int:
        """Return the number of batches of an optimizer step: devices times accumulated batches."""
        trainer = self.for_validation()
        return trainer.accumulate_grad_batches * trainer.world_size

    @quiet()
    def _build(self, folder: Path | None, callbacks: list[L.Callback], **arguments: Any) -> L.Trainer:
        root = {"default_root_dir": folder} if folder else {}
        arguments = root | FIXED | arguments | {"plugins": [AtomicCheckpointIO()]}
        return leave_signals(self.trainer(callbacks=[*callbacks, Progress()], **arguments))


def one_device(device: torch.device) -> TrainerFactory:
    """Return the factory of plain Trainers on one device, in fp32."""
    accelerator = {"cuda": "gpu"}.get(device.type, device.type)
    devices = [device.index or 0] if accelerator == "gpu" else 1
    settings = {"accelerator": accelerator, "devices": devices}
    return TrainerFactory(partial(L.Trainer, **settings, enable_model_summary=False, log_every_n_steps=1))


def result_settings(trainer: L.Trainer) -> dict[str, Any]:
    """Return the settings of a Trainer, except its length, that change the final weights, as plain values."""
    values = {name: getattr(trainer, name) for name in RESULT_SETTINGS}
    values["sync_batchnorm"] = syncs_batchnorm(trainer)
    return {k: v if isinstance(v, int | float | None) else str(v) for k, v in values.items()}


def uses_trainer(evaluator: Any) -> bool:
    """Return whether an evaluator or one of its parts trains a network: its attribute `uses_trainer`."""
    return any(getattr(part, "uses_trainer", False) for part in (evaluator, *vars(evaluator).values()))
