"""Behind `cim-pretrain`: a method is trained, its backbone kept and, if so from_checkpoint, judged."""

import functools
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning.atomic import atomic_write
from cim_lightning.cli import dataset_cache, run_info
from cim_lightning.cli.evaluate import judge
from cim_lightning.cli.preflight import refuse_one_of_many
from cim_lightning.config import from_checkpoint, resume, validate
from cim_lightning.report import comparison, runs

log = logging.getLogger("cim_lightning")

# Lightning's warnings of what is so on purpose, and one that it draws from torch itself.
ON_PURPOSE = (
    r"Found \d+ module\(s\) in eval mode",  # the EMA target's
    r"You're resuming from a checkpoint that ended before the epoch ended",  # exact here
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed",  # of a run that was moved, or a checkpoint that another run begins from
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def run(cfg: DictConfig) -> float | None:
    """Trains, unless the folder holds this very run; then whatever part of the evaluation is not done.

    What a search is for is returned, where it was measured.
    """
    refuse_one_of_many(HydraConfig.get())
    if cfg.get("evaluation"):
        OmegaConf.set_struct(cfg.evaluation, False)
        from_checkpoint.drop_unasked(cfg.evaluation)
    validate.check(cfg, "pretrain")
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    loggers: list[Any] = []
    try:
        before = runs.read_numbers(folder)
        if resume.finished(folder, settings):
            print(f"{folder} holds this run, finished; resume=never with another output_dir trains it anew")
            done = True
        else:
            done = train(settings, folder, loggers)
        if done and settings.get("evaluation") and not resume.judged(folder, settings["evaluation"]):
            device = "cpu" if settings["trainer"]["accelerator"] == "cpu" else "auto"
            wanted = {key: settings[key] for key in ("evaluation", "data", "seed")}
            judge(
                OmegaConf.create(wanted | {"checkpoint": str(folder), "device": device}),
                folder / "evaluation",
            )
        if done and (numbers := runs.read_numbers(folder)) != before:
            for logger in loggers or _made(OmegaConf.create(settings), "logger"):
                if hasattr(logger, "conclude"):
                    logger.conclude(numbers)
    except BaseException:
        _close(1)
        raise
    _close(0)
    return comparison.objective(runs.read_run(folder)) if done else None


def train(settings: dict[str, Any], folder: Path, loggers: list[Any]) -> bool:
    """Trains what the resolved settings say; whether that came to its end, here.

    Args:
        settings: resolved.
        folder: of the run.
        loggers: gets those that were logged to.
    """
    checkpoint = resume.checkpoint(folder, settings)
    cfg = OmegaConf.create(settings)  # what depends on the machine is asked once

    import lightning as L  # these take seconds to import: a mistake is told before

    from cim_lightning.export.timm_weights import export_timm
    from cim_lightning.flops import flops_per_image

    for room in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(room).handlers.clear()  # its own handler would say everything twice
        logging.getLogger(room).setLevel(logging.WARNING)
    for warning in ON_PURPOSE:
        warnings.filterwarnings("ignore", warning)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    make = functools.partial(instantiate, _convert_="all")  # plain lists and dicts reach what is made
    data = make(cfg.data)
    train, val = dataset_cache.shared(
        data, settings["data"]
    )  # a folder that is missing or empty is told before anything large is built
    method = make(cfg.method)
    method.save_hyperparameters(settings)
    method.prepare(data.dummy_batch(1), len(train.classes) if train.classes else None)
    callbacks = _made(cfg, "callbacks")
    loggers += _made(cfg, "logger")
    trainer = make(cfg.trainer, callbacks=callbacks, logger=loggers)
    if cfg.get("budget") is not None or not method.trains:
        images = data.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        cost = sum(flops_per_image(method, data))
        steps = make(cfg.budget).max_steps(cost, images) if method.trains else 0
        trainer.fit_loop.epoch_loop.max_steps, trainer.fit_loop.max_epochs = steps, -1
    if cfg.compile:
        method.compile_networks()
    _hand_on_sweep()
    if trainer.is_global_zero:
        run_info.record(folder)
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(cfg))
        chosen, name = (
            HydraConfig.get().runtime.choices["backbone"],
            method.backbone.timm_kwargs["model_name"],
        )
        weights = sum(p.numel() for p in method.backbone.parameters()) / 1e6
        log.info("%s: %s (timm's %s), %.1f M parameters", folder, chosen, name, weights)
        where, precision = trainer.strategy.root_device, trainer.precision
        log.info("%d training and %d validation images; %s, %s", len(train), len(val), where, precision)
    if checkpoint is None:
        trainer.validate(method, datamodule=data, verbose=False)  # what the untrained backbone can do
        if trainer.received_sigterm:  # which fit would forget
            sys.exit(128 + signal.SIGTERM)
    trainer.fit(method, datamodule=data, ckpt_path=checkpoint)
    done = trainer.is_global_zero and not trainer.interrupted
    if done:
        export_timm(
            method.eval_backbone, folder, settings["cropping"]["normalize"], settings["data"]["view_size"]
        )
        log.info("backbone: %s", folder / "backbone.safetensors")
        if (folder / "panels").exists():
            log.info("pictures: %s", folder / "panels")
    return done


def _made(cfg: DictConfig, group: str) -> list[Any]:
    """All members of a group; null switches one off."""
    return [one for one in instantiate(cfg.get(group) or {}, _convert_="all").values() if one is not None]


def _close(exit_code: int) -> None:
    """wandb would log the next job of a sweep to the run that is open."""
    if wandb := sys.modules.get("wandb"):
        wandb.finish(exit_code)


def _hand_on_sweep() -> None:
    """Lightning starts other devices' processes by this command, in which a sweep's folder is the time."""
    hydra_cfg = HydraConfig.get()
    said = any(argument.startswith("hydra.sweep.dir=") for argument in sys.argv)
    if hydra_cfg.mode is RunMode.MULTIRUN and not said:
        sys.argv.append(f'hydra.sweep.dir="{hydra_cfg.sweep.dir}"')
