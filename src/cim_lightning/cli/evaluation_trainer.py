"""The Trainers of an evaluation, from the settings `trainer` and `logger`."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import default_config
from cim_lightning.config.from_checkpoint import build
from cim_lightning.config.run_builder import build_group
from cim_lightning.config.trainer_settings import check_trainer
from cim_lightning.errors import ConfigError

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from cim_lightning.evaluation.trainer_factory import TrainerFactory

LENGTHS = {"max_epochs": None, "max_steps": -1, "max_time": None}  # and the value that sets none
# Settings of a pre-training's Trainer that its evaluation shares. The others belong to the pre-training.
SHARED = {
    "_target_",
    "accelerator",
    "accumulate_grad_batches",
    "devices",
    "log_every_n_steps",
    "num_nodes",
    "precision",
    "strategy",
    "sync_batchnorm",
}


def check(trainer: Mapping[str, Any]) -> None:
    """Check the settings of the Trainer of an evaluation.

    Raises:
        ConfigError: a setting is out of range, or sets the length, which every evaluator sets itself.
    """
    check_trainer(trainer, has_length=True)
    for name, unset in LENGTHS.items():
        if (value := trainer.get(name, unset)) != unset:
            rule, hint = "each evaluator sets its own length", "try evaluation.finetune.classifier.epochs"
            raise ConfigError(f"trainer.{name}", value, rule, hint=hint)


def after_pretraining(trainer: Mapping[str, Any], folder: Path) -> DictConfig:
    """Return the settings of `cim-evaluate` that a pre-training does not have.

    Args:
        trainer: settings of the pre-training's Trainer.
        folder: of the run.
    """
    defaults = default_config("evaluate")
    shared = {name: value for name, value in trainer.items() if name in SHARED}
    own = {"trainer": shared, "paths": {"run": str(folder / "evaluation")}, "checkpoint": str(folder)}
    groups = {name: defaults[name] for name in ("trainer", "logger", "protocol")}
    return OmegaConf.unsafe_merge(groups, own)  # pyright: ignore


def trainer_factory(cfg: DictConfig) -> "TrainerFactory":
    """Return the factory of the configured Trainers, after starting the processes of all devices.

    Args:
        cfg: trainer, and optionally logger and paths. The loggers of a training use its folder as paths.run.

    Raises:
        ConfigError: Lightning cannot start the processes of this strategy here.
    """
    from cim_lightning.evaluation.trainer_factory import TrainerFactory
    from cim_lightning.lightning_internals import quiet, start_processes

    with quiet():
        trainer = build(cfg.trainer, logger=False, enable_checkpointing=False)
        if not start_processes(trainer):
            rule = "an evaluation needs a strategy that repeats the command for each device"
            raise ConfigError("trainer.strategy", cfg.trainer.get("strategy"), rule, suggest="ddp")
    return TrainerFactory(build(cfg.trainer, _partial_=True), functools.partial(_loggers, cfg))


def planned_factory(cfg: DictConfig) -> "TrainerFactory":
    """Return the factory of the configured Trainers without loggers, before their processes start."""
    from cim_lightning.evaluation.trainer_factory import TrainerFactory

    return TrainerFactory(build(cfg.trainer, _partial_=True))


def _loggers(cfg: DictConfig, folder: Path) -> list[Any]:
    """Return the loggers of one training."""
    own: Any = OmegaConf.merge(cfg, {"paths": {"run": str(folder)}})
    if OmegaConf.select(own, "logger.wandb"):  # a run of its own, which stays the same on resume
        name = "/".join(folder.absolute().parts[-4:])  # run, evaluation, classifiers, training
        own = OmegaConf.merge(own, {"logger": {"wandb": {"id": folder.name, "name": name}}})
    return build_group(own.get("logger"))
