"""Train a network inside an evaluation: resume an unfinished training, reuse a finished one."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file, save_file

from cim_lightning.atomic import read_json, replacing, write_json
from cim_lightning.checkpoint_files import LAST, PREVIOUS, newest
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.fingerprint import fingerprint, weights_hash
from cim_lightning.evaluation.trainer_factory import TrainerFactory, one_device, result_settings
from cim_lightning.lightning_internals import quiet

log = logging.getLogger(__name__)


@quiet()
def fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    context: EvalContext,
    name: str,
    settings: Any,
    **length: int,
) -> Path:
    """Train a module in place, under the configured Trainer.

    An interrupted training resumes with the remaining batches, if the data module restores its position. A
    finished training is reused if all settings, the backbone's weights and the data are the same.

    Args:
        module: with its initial weights, which depend on the context's seed only. Afterwards, it is in
            evaluation mode on the context's device.
        data: its training batches depend on the context's seed and on its position only.
        name: path of the training's folder in the folder of the context, to which a hash is appended.
        settings: plain values or objects with public attributes, that determine the final weights: of the
            evaluator, and what identifies the images, such as their number and classes.
        length: max_epochs or max_steps.

    Returns:
        The folder of the training, with its weights and logged metrics.
    """
    factory = trainer_factory(context)
    args = {"settings": settings, "length": length, "context": context.cache_key, "seed": context.seed}
    args["trainer"] = result_settings(factory.for_validation())
    args = fingerprint(args) | {"backbone": weights_hash(context.backbone)}
    digest = hashlib.sha256(json.dumps(args, sort_keys=True).encode()).hexdigest()[:12]
    folder = context.folder / f"{name}-{digest}"
    trainer = factory.for_training(folder, context.seed, **length)
    weights, done = folder / "weights.safetensors", folder / "training.json"
    found = bool(read_json(done)), newest(folder, "output_dir")
    finished, checkpoint = trainer.strategy.broadcast(found)
    if finished:
        log.info("using the finished training in %s", folder)
        module.load_state_dict(load_file(weights))
    else:
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
        _train(trainer, module, data, checkpoint)
        if trainer.is_global_zero:
            with replacing(weights) as temporary:
                save_file(
                    {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, temporary
                )
            write_json(done, args)
            for name in (LAST, PREVIOUS):
                (folder / name).unlink(missing_ok=True)
        trainer.strategy.barrier()
    module.to(context.device).eval()
    return folder


@quiet()
def validate(
    module: L.LightningModule, data: L.LightningDataModule, context: EvalContext
) -> dict[str, float]:
    """Return the logged metrics of the validation batches, over all devices.

    Afterwards, the module is in evaluation mode on the context's device.

    Raises:
        ConfigError: there is no validation batch.
    """
    trainer = trainer_factory(context).for_validation()
    logged = trainer.validate(module, datamodule=data, verbose=False)
    if not logged:
        raise ConfigError("no validation image has a label; put the validation images into class folders")
    module.to(context.device).eval()
    return {name: float(value) for name, value in logged[0].items()}


def trainer_factory(context: EvalContext) -> TrainerFactory:
    """Return the factory of a context; by default, of Trainers on its device."""
    return context.trainer or one_device(context.device)


def _train(
    trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, checkpoint: Path | None
) -> None:
    if checkpoint is not None:
        log.info("resuming %s", checkpoint)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except torch.OutOfMemoryError as error:
        batches = trainer.accumulate_grad_batches
        rule = "the device has too little memory for the micro-batches of a step"
        failed = ConfigError("accumulate_grad_batches", batches, rule, suggest=2 * batches)
        failed.group = "trainer"
        raise failed from error
    finally:
        for logger in trainer.loggers:
            close: Callable[[], None] | None = getattr(logger, "close", None)
            if close is not None:  # wandb: the next training is another run
                close()
