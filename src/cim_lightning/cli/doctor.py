"""`cim-doctor`: show in seconds what a pre-training will do, prove exact resume, or repeat a bad batch."""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli.preflight import num_processes
from cim_lightning.cli.repeat_step import REPLAY, repeat_step
from cim_lightning.config import consistency, validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError

VERIFY = "verify-resume"
USAGE = f"""Show what cim-pretrain will do with the same settings, without training.
  cim-doctor experiment=demo                images, learning rates, parameters, data types, speed, memory
  cim-doctor {VERIFY} experiment=demo  train a few steps, resume, and compare every tensor
  cim-doctor {REPLAY} FILE                  repeat the batch of a file in nonfinite/ of a run
The exit code is 1 if there is a problem."""
CPU_IMAGES = 16  # largest batch of the trial on a CPU, whose speed hardly depends on it


def run(arguments: Sequence[str], explain: Any) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: of the command line, in Hydra's grammar.
        explain: returns a context in which a user's error is printed in one line, from the configuration.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if arguments[:1] == [REPLAY]:
        return _report(repeat_step(arguments[1:]))
    verify = arguments[:1] == [VERIFY]
    overrides = list(arguments[verify:])
    if flags := [argument for argument in overrides if argument.startswith("-")]:
        raise ConfigError(f"{flags[0]}: cim-doctor has no such option; it takes the settings of one run")
    cfg = _compose(overrides)
    with explain(cfg):
        validate.check(cfg, "pretrain", overrides)
        consistency.check_pretraining(cfg, overrides)
        sections = _verify_resume(cfg) if verify else _examine(cfg)
    return _report(sections)


def _report(sections: dict[str, list[Any]]) -> int:
    """Print findings and return the exit code."""
    from cim_lightning.doctor.finding import problems, table

    print(table(sections))
    found = problems(sections)
    print(f"\n{len(found)} problem(s)" if found else "\nno problems")
    return 1 if found else 0


def _compose(overrides: Sequence[str]) -> DictConfig:
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("pretrain", ["paths.run=${output_dir}", *overrides])


def _examine(cfg: DictConfig) -> dict[str, list[Any]]:
    """Return the findings of a configuration, after a trial of a few steps."""
    from cim_lightning.doctor import images
    from cim_lightning.doctor.finding import Finding
    from cim_lightning.doctor.parameters import weight_findings

    with _quiet() as warnings:
        run = _build(cfg)
        millions = sum(p.numel() for p in run.method.backbone.parameters()) / 1e6
        about = f"{type(run.method).__name__}, {run.method.backbone.name} of {millions:.3g} M parameters"
        sections = {
            "Method": [Finding("method", about), *weight_findings(run.method.backbone)],
            "Images": images.image_findings(run.data),
        }
        if run.method.trains:
            sections |= _examine_training(cfg, run)
        else:
            sections["Length"] = [Finding("training", "none: this method has no steps")]
    if warnings:
        sections["Settings"] = [Finding("warning", line, "see the line") for line in warnings]
    return sections


def _examine_training(cfg: DictConfig, run: Any) -> dict[str, list[Any]]:
    """Return what only a method that trains has, after a trial of a few steps."""
    from cim_lightning.doctor import images, length, parameters, resources, trial

    method, data, trainer = run.method, run.data, run.trainer
    plan = length.training_length(data, trainer)
    optimizer, schedule = method.optim(method, plan.images_per_step, plan.steps)
    loader = images.loader_images_per_s(data)
    tried, probe = _trial(cfg, run)
    device = tried.trainer.strategy.root_device
    step, total = probe.images_per_s(data, device), resources.total_memory(device)
    where = f"{device}, batches of {probe.images}"
    checkpoints = 3 if cfg.callbacks.get("best") else 2  # last, previous, best
    return {
        "Length": [
            *length.length_findings(plan, data, trainer),
            *length.rate_findings(method.optim, optimizer, schedule, plan),
            *parameters.target_findings(method, plan.steps),
        ],
        "Parameters": parameters.group_findings(method, optimizer),
        "First steps": trial.trial_findings(probe, tried.method, trainer.gradient_clip_val),
        "Resources": [
            *resources.time_findings(loader, step, trainer.world_size, plan, where),
            *resources.memory_findings(method, optimizer, probe.step_bytes, total, where),
            *resources.disk_findings(method, optimizer, checkpoints, Path(str(cfg.output_dir))),
        ],
    }


def _trial(cfg: DictConfig, run: Any) -> tuple[Any, Any]:
    """Train a few steps on one device, and return the run and what its callback recorded."""
    from cim_lightning.doctor.trial import STEPS, Trial

    probe = Trial()
    tried = _build(_short(cfg, run, STEPS), run.data.splits)
    tried.trainer.callbacks.append(probe)
    tried.trainer.fit(tried.method, datamodule=tried.data)
    return tried, probe


def _verify_resume(cfg: DictConfig) -> dict[str, list[Any]]:
    from cim_lightning.doctor.exact_resume import STEPS, verify_resume

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        run = _build(cfg)
        short = _short(cfg, run, STEPS)

        def build(path: Path, resumed: bool) -> Any:
            path.mkdir()
            return _build(short, run.data.splits, resumed)

        return {"Exact resume": verify_resume(build, Path(folder))}


def _short(cfg: DictConfig, run: Any, steps: int) -> DictConfig:
    """Return the configuration of a few steps on one device, without files of its own."""
    short = cfg.copy()
    OmegaConf.set_struct(short, False)
    on_cpu = run.trainer.strategy.root_device.type == "cpu"
    images = min(run.data.batch_size, len(run.data.splits.train), CPU_IMAGES if on_cpu else sys.maxsize)
    short.data.batch_size = images
    short.budget = None
    kept = {key: value for key, value in short.callbacks.items() if key == "step_seed"}
    short.callbacks = kept
    short.trainer.merge_with(
        {
            **{"devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": -1, "max_steps": steps},
            **{"limit_val_batches": 0, "limit_train_batches": 1.0},
            **{"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False},
        }
    )
    return short


def _build(cfg: DictConfig, splits: Any = None, resumed: bool = False) -> Any:
    from cim_lightning.config.run_builder import build_run

    cfg = cfg.copy()
    cfg.logger = None  # nothing is logged
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore

    def open_images(data: Any) -> Any:
        if splits is not None:
            data.splits = splits
        return data.splits

    return build_run(settings, num_processes(settings["trainer"]), open_images, resumed)


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Silence Lightning, and collect the warnings of this project."""
    from cim_lightning.lightning_internals import quiet

    collected: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: collected.append(record.getMessage())
    logger = logging.getLogger("cim_lightning")
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        with quiet():
            yield collected
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
