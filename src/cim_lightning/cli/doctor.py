"""`cim-doctor`: show in seconds what a pre-training will do, prove exact resume, or repeat a bad batch."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from cim_lightning.cli import disk_space
from cim_lightning.cli.evaluate import check_evaluators
from cim_lightning.cli.preflight import check_settings
from cim_lightning.cli.repeat_step import REPLAY, repeat_step
from cim_lightning.cli.short_run import build, short_settings
from cim_lightning.config import resume
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.doubtful_settings import unused_split_settings
from cim_lightning.config.image_paths import check_image_paths
from cim_lightning.errors import ConfigError

VERIFY = "verify-resume"
USAGE = f"""Show what cim-pretrain will do with the same settings, without training.
  cim-doctor experiment=demo                images, learning rates, parameters, data types, speed, memory
  cim-doctor {VERIFY} experiment=demo  train a few steps, resume, and compare every tensor
  cim-doctor {REPLAY} FILE                  repeat the batch of a file in nonfinite/ of a run
The exit code is 1 if there is a problem."""


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
        doubtful = check_settings(cfg, overrides)
        check_image_paths(cfg.data)
        sections = _verify_resume(cfg) if verify else _examine(cfg, overrides, doubtful)
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


def _examine(cfg: DictConfig, overrides: Sequence[str], doubtful: list[str]) -> dict[str, list[Any]]:
    """Return the findings of a configuration, after a trial of a few steps.

    Args:
        overrides: of the command line.
        doubtful: warnings of the settings.
    """
    from cim_lightning.doctor import images
    from cim_lightning.doctor.finding import Finding
    from cim_lightning.doctor.parameters import weight_findings

    with _quiet() as warnings:
        run = build(cfg)
        run.data.trainer = run.trainer  # which divides its batches
        run.data.setup()
        folder = Path(str(cfg.output_dir))
        resume.find_checkpoint(folder, run.settings)
        check_evaluators(DictConfig(run.settings), run.method, run.data, folder, overrides)
        warnings += [*doubtful, *unused_split_settings(cfg, overrides, run.data.splits.drawn)]
        run.data.trainer = None
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
    checkpoint, folder = disk_space.checkpoint_bytes(method), Path(str(cfg.output_dir))
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
            *resources.memory_findings(method, checkpoint, probe.step_bytes, total, where),
            *resources.disk_findings(checkpoint, disk_space.FILES, folder),
        ],
    }


def _trial(cfg: DictConfig, run: Any) -> tuple[Any, Any]:
    """Train a few steps on one device, and return the run and what its callback recorded."""
    from cim_lightning.doctor.trial import STEPS, Trial

    probe = Trial()
    tried = build(short_settings(cfg, run, STEPS), run.data.splits)
    tried.trainer.callbacks.append(probe)
    tried.trainer.fit(tried.method, datamodule=tried.data)
    return tried, probe


def _verify_resume(cfg: DictConfig) -> dict[str, list[Any]]:
    from cim_lightning.doctor.exact_resume import STEPS, verify_resume

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        run = build(cfg)
        short = short_settings(cfg, run, STEPS)

        def build_in(path: Path, resumed: bool) -> Any:
            path.mkdir()
            return build(short, run.data.splits, resumed)

        return {"Exact resume": verify_resume(build_in, Path(folder))}


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
