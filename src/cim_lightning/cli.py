"""The doors: compose, check, seed, instantiate, run. Nothing past this file knows of Hydra."""

import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cim_lightning import asked, config, mistakes, resume, schema

log = logging.getLogger("cim_lightning")
MISTAKE = 2  # exit code

# Lightning's warnings of what is so on purpose, and one that it draws from torch itself.
ON_PURPOSE = (
    r"Found \d+ module\(s\) in eval mode",  # the EMA target's
    r"You're resuming from a checkpoint that ended before the epoch ended",  # EpochOrder goes on exactly
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed",  # of a run that was moved, or a checkpoint that another run begins from
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def pretrain() -> None:
    """The door `cim-pretrain`."""
    sys.argv[1:] = resume.rerouted(sys.argv[1:])
    _open("pretrain", _pretrain)


def evaluate() -> None:
    """The door `cim-evaluate`."""
    _open("evaluate", _evaluate)


def export() -> None:
    """The door `cim-export`."""
    _open("export", _export)


def _open(door: str, task: Callable[[DictConfig], Any]) -> None:
    """Runs a door under Hydra; a user's mistake ends it with one line and exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hands errors to us instead of printing them
    config.register_resolvers()

    @functools.wraps(task)
    def told(cfg: DictConfig) -> None:
        with _one_line(door):
            task(cfg)

    sys.argv[1:] = [_at_home(argument) for argument in sys.argv[1:]]
    with _one_line(door):
        hydra.main(config_path=str(config.CONF), config_name=door, version_base="1.3")(told)()


@contextmanager
def _one_line(door: str) -> Iterator[None]:
    """Tells a user's mistake in one line and exits; everything else keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"cim-{door}: interrupted; the same command goes on with what is kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        line = mistakes.explain(error, door)
        if line is None:
            raise
        print(f"cim-{door}: {line}", file=sys.stderr)
        sys.exit(MISTAKE)


def _at_home(argument: str) -> str:
    """Expands the ~ of `data.root=~/images`: shells leave it there, and Hydra's grammar refuses it."""
    key, equals, value = argument.partition("=")
    return f"{key}={Path(value).expanduser()}" if equals and value.startswith("~/") else argument


def _pretrain(cfg: DictConfig) -> None:
    schema.check(cfg, "pretrain")
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    if resume.finished(folder, settings):
        print(f"{folder} holds this run, finished; resume=never with another output_dir trains it anew")
        return
    checkpoint = resume.checkpoint(folder, settings)
    cfg = OmegaConf.create(settings)  # what depends on the machine is asked once

    import lightning as L  # these take seconds to import: a mistake is told before

    from cim_lightning.export.weights import export_timm

    for room in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(room).handlers.clear()  # its own handler would say everything twice
        logging.getLogger(room).setLevel(logging.WARNING)
    for warning in ON_PURPOSE:
        warnings.filterwarnings("ignore", warning)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    make = functools.partial(instantiate, _convert_="all")  # plain lists and dicts reach what is made
    data = make(cfg.data)
    train, val = data.splits  # a folder that is missing or empty is told before anything large is built
    method = make(cfg.method)
    method.save_hyperparameters(settings)
    callbacks, loggers = (  # null switches one off
        [one for one in make(cfg.get(group) or {}).values() if one is not None]
        for group in ("callbacks", "logger")
    )
    trainer = make(cfg.trainer, callbacks=callbacks, logger=loggers)
    if cfg.compile:
        method.compile_networks()
    _hand_on_sweep()
    if trainer.is_global_zero:
        OmegaConf.save(cfg, folder / "config.yaml")
        chosen, name = HydraConfig.get().runtime.choices["backbone"], method.backbone.recipe["model_name"]
        weights = sum(p.numel() for p in method.backbone.parameters()) / 1e6
        log.info("%s: %s (timm's %s), %.1f M parameters", folder, chosen, name, weights)
        where, precision = trainer.strategy.root_device, trainer.precision
        log.info("%d training and %d validation images; %s, %s", len(train), len(val), where, precision)
    if checkpoint is None:
        trainer.validate(method, datamodule=data, verbose=False)  # what the untrained backbone can do
        if trainer.received_sigterm:  # which fit would forget
            sys.exit(128 + signal.SIGTERM)
    trainer.fit(method, datamodule=data, ckpt_path=checkpoint)
    if trainer.is_global_zero and not trainer.interrupted:
        export_timm(method.backbone, folder, settings["cropping"]["normalize"], settings["data"]["view_size"])
        log.info("backbone: %s; pictures: %s", folder / "backbone.safetensors", folder / "panels")
    for logger in trainer.loggers:
        if hasattr(logger.experiment, "finish"):  # wandb would log the next job of a sweep to this run
            logger.experiment.finish()


def _hand_on_sweep() -> None:
    """Lightning starts other devices' processes by this command, in which a sweep's folder is the time."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode is RunMode.MULTIRUN and hydra_cfg.job.num == 0:
        sys.argv.append(f'hydra.sweep.dir="{hydra_cfg.sweep.dir}"')


def _evaluate(cfg: DictConfig) -> None:
    from cim_lightning import trained

    found = trained.read(cfg.checkpoint)
    OmegaConf.set_struct(cfg, False)
    asked.complete(cfg, found)
    asked.drop_unasked(cfg.evaluation)
    schema.check(cfg, "evaluate")
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    make = functools.partial(instantiate, _convert_="all")
    data = make(cfg.data)
    splits = data.splits  # a folder that is missing or empty is told before anything large is built
    parts = {name: make(part) for name, part in cfg.evaluation.items()}
    method = None
    if found.settings is not None:
        method = make(OmegaConf.create(found.settings).method)
        method.load_state_dict(found.state)

    import torch

    from cim_lightning.evaluation.subject import Subject, device_of
    from cim_lightning.evaluation.suite import evaluate

    torch.manual_seed(cfg.seed)  # of an untrained backbone
    backbone = method.backbone if method else trained.backbone(found, lambda: make(cfg.backbone))
    normalize = data.cropping.normalize
    folder, device = Path(HydraConfig.get().runtime.output_dir), device_of(cfg.device)
    about = {"checkpoint": str(found.path or cfg.checkpoint), "backbone": backbone.recipe["model_name"]}
    log.info("%s: %s of %s; %s", folder, about["backbone"], about["checkpoint"], device)
    log.info("%d training and %d validation images", *map(len, splits))
    weights = {"modified": found.path.stat().st_mtime_ns} if found.path else {}
    same = {"data": settings["data"], "backbone": settings.get("backbone"), "seed": cfg.seed}
    origin = asked.decisive(about | weights | same)
    subject = Subject(backbone.to(device).eval(), method, normalize, data, device, folder, cfg.seed, origin)
    wanted = {name: origin | {"part": asked.decisive(part)} for name, part in settings["evaluation"].items()}
    evaluate(parts, subject, wanted, about)
    print((folder / "table.md").read_text())


def _export(cfg: DictConfig) -> None:
    schema.check(cfg, "export")
    form = instantiate(cfg.format)

    from cim_lightning import trained
    from cim_lightning.export.images import Images

    found = trained.read(cfg.checkpoint)
    normalize, size = trained.shown(found)
    own = found.settings and OmegaConf.create(found.settings["method"]["backbone"])
    backbone = trained.backbone(found, lambda: instantiate(own, _convert_="all")).eval()
    images = Images(backbone.recipe["in_chans"], size, normalize)
    folder = Path(HydraConfig.get().runtime.output_dir)
    form.export(backbone, images, folder, {"checkpoint": str(found.path)} | backbone.recipe)
