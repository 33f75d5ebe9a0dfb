"""`cim-pretrain`: train a method, export its backbone, and evaluate it if configured."""

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cim_lightning.atomic import atomic_write, update_json
from cim_lightning.cli.evaluate import evaluate, requested_evaluators
from cim_lightning.cli.preflight import check_recipe, check_trainer, num_processes
from cim_lightning.cli.run_info import run_info
from cim_lightning.cli.sweep import current_sweep
from cim_lightning.config import from_checkpoint, resume, validate
from cim_lightning.config.from_checkpoint import build
from cim_lightning.errors import ConfigError, EvaluationError
from cim_lightning.loggers.protocols import LogsSummary
from cim_lightning.report import runs
from cim_lightning.report.columns import objective

log = logging.getLogger("cim_lightning")

# Warnings of Lightning about intended behavior, and one of torch that Lightning causes.
IGNORED_WARNINGS = (
    r"Found \d+ module\(s\) in eval mode",  # the EMA target
    r"You're resuming from a checkpoint that ended before the epoch ended",  # exact in this project
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed",  # the run moved, or starts from the checkpoint of another run
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def run(cfg: DictConfig) -> float | None:
    """Train unless the run is already finished, then run the missing evaluations.

    Returns:
        The sweep objective; None if it was not measured.
    """
    hydra_cfg = HydraConfig.get()
    check_recipe(hydra_cfg)
    if cfg.get("evaluation"):
        OmegaConf.set_struct(cfg.evaluation, False)
        from_checkpoint.drop_unused(cfg.evaluation, hydra_cfg.overrides.task)
    validate.check(cfg, "pretrain")
    check_trainer(cfg.trainer, has_budget=cfg.get("budget") is not None)
    folder = Path(hydra_cfg.runtime.output_dir)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    try:
        before, trainer, failure = runs.read_numbers(folder), None, None
        if resume.is_finished(folder, settings):
            print(f"{folder}: already finished; for a new run, use resume=never output_dir=NEW")
        elif (trainer := train(settings, folder)) is None:
            return None
        if settings.get("evaluation") and not resume.is_evaluated(folder, settings["evaluation"]):
            device = "cpu" if settings["trainer"]["accelerator"] == "cpu" else "auto"
            inputs = {key: settings[key] for key in ("evaluation", "data", "seed")}
            inputs |= {"checkpoint": str(folder), "device": device}
            requested = requested_evaluators(hydra_cfg.overrides.task)
            try:
                evaluate(OmegaConf.create(inputs), folder / "evaluation", requested)
            except EvaluationError as error:  # the other results are still logged
                failure = error
        finished = runs.read_run(folder)
        if finished.numbers != before:
            for logger in trainer.loggers if trainer else _build_group(settings.get("logger")):
                if isinstance(logger, LogsSummary):
                    logger.log_summary(finished.numbers, finished.metrics)
        if failure is not None:
            raise failure
    finally:
        if wandb := sys.modules.get("wandb"):  # Close the wandb run. Otherwise the next job logs to it.
            wandb.finish(int(sys.exc_info()[0] is not None))
    return objective(finished)


def train(settings: dict[str, Any], folder: Path) -> Any:
    """Train into a folder, or resume the run in it; export the backbone at the end.

    Args:
        settings: resolved.
        folder: of the run.

    Returns:
        The trainer; None if training was interrupted, and in all but the first process of the run.
    """
    checkpoint = resume.find_checkpoint(folder, settings)
    cfg = OmegaConf.create(settings)

    import lightning as L  # slow to import: errors in the settings come first

    from cim_lightning.export.timm_format import TimmFormat
    from cim_lightning.models.timm_backbone import TimmBackbone

    _quiet_lightning()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build(cfg.data)
    # Missing images fail here, before anything slow.
    train_images, _ = current_sweep().datasets.open(data, settings["data"])
    method = build(cfg.method)
    method.save_hyperparameters(settings)
    method.prepare(data.dummy_batch(1), len(train_images.classes) if train_images.classes else None)
    callbacks, loggers = _build_group(cfg.get("callbacks")), _build_group(cfg.get("logger"))
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers, **_length(cfg, data, method))
    if cfg.get("budget") is not None and trainer.world_size != (planned := num_processes(cfg.trainer)):
        rule = f"the budget is planned for {planned} processes, but Lightning starts {trainer.world_size}"
        raise ConfigError("trainer.devices", cfg.trainer.get("devices"), rule, hint="try a number of devices")
    if cfg.compile:
        method.compile_networks()
    if trainer.is_global_zero:
        update_json(folder / "run.json", run_info())
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(cfg))
        _log_run(folder, data, method, trainer, checkpoint)
    if checkpoint is None:
        trainer.validate(method, datamodule=data, verbose=False)  # the metrics before training
        if trainer.received_sigterm:  # which fit would ignore
            sys.exit(128 + signal.SIGTERM)
    trainer.fit(method, datamodule=data, ckpt_path=checkpoint)
    if trainer.interrupted or not trainer.is_global_zero:
        return None
    backbone = method.eval_backbone
    if isinstance(backbone, TimmBackbone):
        TimmFormat(tolerance=0).write(backbone, cfg.data.view_size, folder)
        log.info("backbone: %s", folder / TimmFormat.file)
    if (folder / "panels").exists():
        log.info("panels: %s", folder / "panels")
    return trainer


def _length(cfg: DictConfig, data: Any, method: Any) -> dict[str, int]:
    """Return the length of training as arguments of the trainer, if a budget or the method sets it."""
    if not method.trains:
        return {"max_steps": 0}
    if cfg.get("budget") is None:
        return {}
    from cim_lightning.flops import NUM_IMAGES, flops_per_image

    accumulate = cfg.trainer.get("accumulate_grad_batches") or 1
    images = method.batch_size * accumulate * num_processes(cfg.trainer)
    flops = flops_per_image(method, data.dummy_batch(NUM_IMAGES))
    steps = build(cfg.budget).max_steps(sum(flops), images)
    return {"max_steps": steps, "max_epochs": -1}


def _log_run(folder: Path, data: Any, method: Any, trainer: Any, checkpoint: str | None) -> None:
    choice, model = HydraConfig.get().runtime.choices["backbone"], method.backbone.name
    millions = sum(p.numel() for p in method.backbone.parameters()) / 1e6
    log.info("%s: %s (%s), %.1f M parameters", folder, choice, model, millions)
    images, device = [*map(len, data.splits)], trainer.strategy.root_device
    log.info("%d training and %d validation images; %s, %s", *images, device, trainer.precision)
    if checkpoint is not None:
        from cim_lightning.weights import global_step

        log.info("resuming %s at step %d", checkpoint, global_step(checkpoint))


def _build_group(group: Any) -> list[Any]:
    """Build all members of a config group except null."""
    return [member for member in build(group or {}).values() if member is not None]


def _quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # messages would appear twice
        logger.setLevel(logging.WARNING)
    for warning in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", warning)
