"""`cim-pretrain`: train a method, export its backbone, and evaluate it if configured."""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cim_lightning import stop_signals
from cim_lightning.atomic import atomic_write, read_json, update_json
from cim_lightning.checkpoint_files import check_fits, global_step
from cim_lightning.cli import disk_space, evaluation_trainer
from cim_lightning.cli.close_wandb import close_wandb
from cim_lightning.cli.evaluate import check_evaluators, evaluate, requested_evaluators
from cim_lightning.cli.lost_process import explain_lost_process
from cim_lightning.cli.preflight import check_recipe, check_settings, num_processes
from cim_lightning.cli.run_info import run_info
from cim_lightning.cli.sweep import current_sweep
from cim_lightning.config import resume
from cim_lightning.config.doubtful_settings import unused_split_settings
from cim_lightning.config.image_paths import check_image_paths
from cim_lightning.config.run_builder import build_group, build_run
from cim_lightning.config.trainer_settings import has_budget
from cim_lightning.config.trusted_targets import targets
from cim_lightning.errors import ConfigError, EvaluationError
from cim_lightning.loggers.protocols import KeepsRows, LogsSummary
from cim_lightning.report import runs
from cim_lightning.report.columns import objective

log = logging.getLogger("cim_lightning")


def run(cfg: DictConfig) -> float | None:
    """Train unless the run is already finished, then run the missing evaluations.

    Returns:
        The sweep objective; None if it was not measured.
    """
    hydra_cfg = HydraConfig.get()
    check_recipe(hydra_cfg)
    for line in check_settings(cfg, hydra_cfg.overrides.task):
        log.warning("%s", line)
    folder = Path(hydra_cfg.runtime.output_dir)
    if not resume.is_trained(folder):
        check_image_paths(cfg.data)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    try:
        before, trainer, failure = runs.read_numbers(folder), None, None
        if resume.is_finished(folder, settings):
            print(f"{folder}: already finished; for a new run, use resume=never output_dir=NEW")
        else:
            trainer = train(settings, folder)
        stop_signals.set_outcome("training is complete; run the same command for the rest")
        if settings.get("evaluation") and not resume.is_evaluated(folder, settings["evaluation"]):
            inputs = evaluation_trainer.after_pretraining(settings["trainer"], folder)
            inputs.update({key: settings[key] for key in ("evaluation", "data", "seed")})
            requested = requested_evaluators(hydra_cfg.overrides.task)
            try:
                evaluate(inputs, folder / "evaluation", requested, [*targets(settings)])
            except EvaluationError as error:  # the other results are still logged
                failure = error
        finished = runs.read_run(folder)
        if finished.numbers != before:
            for logger in trainer.loggers if trainer else build_group(settings.get("logger")):
                if isinstance(logger, LogsSummary):
                    logger.log_summary(finished.numbers, finished.metrics)
        if failure is not None:
            raise failure
    finally:
        close_wandb(failed=sys.exc_info()[0] is not None)
    return objective(finished)


def train(settings: dict[str, Any], folder: Path) -> Any:
    """Train into a folder, or resume the run in it; export the backbone at the end.

    Args:
        settings: resolved.
        folder: of the run.

    Returns:
        The trainer.
    """
    checkpoint = resume.find_checkpoint(folder, settings)

    from cim_lightning.lightning_internals import quiet  # slow to import: errors in the settings come first

    with quiet(), explain_lost_process():
        return _train(settings, folder, checkpoint)


def _train(settings: dict[str, Any], folder: Path, checkpoint: str | None) -> Any:
    from cim_lightning.formats.timm_format import TimmFormat
    from cim_lightning.models.timm_backbone import TimmBackbone

    cfg = OmegaConf.create(settings)
    planned = num_processes(cfg.trainer)
    datasets = current_sweep().datasets
    method, data, trainer, _ = build_run(
        settings, planned, lambda data: datasets.open(data, settings["data"]), checkpoint is not None
    )
    if has_budget(cfg) and trainer.world_size != planned:
        rule = f"the budget is planned for {planned} processes, but Lightning starts {trainer.world_size}"
        raise ConfigError("trainer.devices", cfg.trainer.get("devices"), rule, hint="try a number of devices")
    data.trainer = trainer  # which divides its batches
    if checkpoint is not None:
        check_fits(Path(checkpoint), method.state_dict())
    changes = [] if checkpoint is None else resume.check_data(checkpoint, folder, settings, data)
    check_evaluators(cfg, method, data, folder, HydraConfig.get().overrides.task)
    if trainer.is_global_zero:
        disk_space.check(folder, method)
        loaded = method.backbone.loaded_weights
        info = run_info() | {"images": resume.fingerprints(data.image_record)}
        if changes:
            earlier = read_json(folder / "run.json").get("image_changes", [])
            info["image_changes"] = [*earlier, *changes]
        update_json(folder / "run.json", info | ({"weights": loaded.record()} if loaded else {}))
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(cfg))
        _log_run(folder, data, method, trainer, checkpoint)
        for line in unused_split_settings(cfg, HydraConfig.get().overrides.task, data.splits.drawn):
            log.warning("%s", line)
    if checkpoint is None:
        for logger in trainer.loggers:
            if isinstance(logger, KeepsRows):
                logger.drop_rows(0)  # of a run that ended before its first save
        if len(data.splits.val):
            trainer.validate(method, datamodule=data, verbose=False)  # the metrics before training
    trainer.fit(method, datamodule=data, ckpt_path=checkpoint)
    backbone = method.eval_backbone
    if trainer.is_global_zero and isinstance(backbone, TimmBackbone):
        TimmFormat(tolerance=0).write(backbone, cfg.data.view_size, folder)
        log.info("backbone: %s", folder / TimmFormat.file)
    if trainer.is_global_zero and (folder / "panels").exists():
        log.info("panels: %s", folder / "panels")
    trainer.strategy.barrier()  # the other processes evaluate the exported backbone, too
    return trainer


def _log_run(folder: Path, data: Any, method: Any, trainer: Any, checkpoint: str | None) -> None:
    choice, model = HydraConfig.get().runtime.choices["backbone"], method.backbone.name
    millions = sum(p.numel() for p in method.backbone.parameters()) / 1e6
    log.info("%s: %s (%s), %.1f M parameters", folder, choice, model, millions)
    if method.backbone.loaded_weights is not None:
        log.info("weights: %s", method.backbone.loaded_weights)
    log.info("%s", data.splits.describe())
    if data.label_share is not None:
        log.info("%s", data.images("train").describe_labels())
    if not len(data.splits.val):
        log.info("no validation: no val/ metrics, k-NN accuracy, panels or best.ckpt")
    log.info("%s, %s", trainer.strategy.root_device, trainer.precision)
    if checkpoint is not None:
        log.info("resuming %s at step %d", checkpoint, global_step(Path(checkpoint)))
