"""`cim-evaluate`: evaluate a backbone."""

import functools
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli import evaluation_trainer
from cim_lightning.cli.sweep import current_sweep
from cim_lightning.config import from_checkpoint, messages, validate
from cim_lightning.config.doubtful_settings import doubtful_settings
from cim_lightning.config.result_settings import result_settings
from cim_lightning.config.unused_evaluators import drop_unused
from cim_lightning.data.bad_images import FILE as BAD_FILES
from cim_lightning.errors import ConfigError, EvaluationError
from cim_lightning.weights.location import check_file

log = logging.getLogger("cim_lightning")


def run(cfg: DictConfig) -> None:
    """Evaluate the configured checkpoint, into the output folder of the command."""
    hydra_cfg = HydraConfig.get()
    OmegaConf.set_struct(cfg, False)
    overrides = hydra_cfg.overrides.task
    drop_unused(cfg.evaluation, overrides)
    for line in doubtful_settings(cfg, overrides):
        log.warning("%s", line)
    validate.check(cfg, "evaluate", overrides, incomplete=["data"])
    check_file(cfg.checkpoint, "checkpoint")
    folder = Path(hydra_cfg.runtime.output_dir)
    evaluate(cfg, folder, requested_evaluators(overrides), cfg.trusted_packages)


def requested_evaluators(overrides: Sequence[str]) -> set[str]:
    """Return the options of `evaluation` on the command line; the evaluators of `all` are not among them."""
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+").startswith("evaluation=")]
    choices = yaml.safe_load(values[-1]) if values else None
    return {choices} if isinstance(choices, str) else set(choices or ())


def check_evaluators(cfg: DictConfig, method: Any, data: Any, folder: Path, overrides: Sequence[str]) -> None:
    """Check before training that the evaluation after it applies and fits into memory, if there is one.

    Args:
        cfg: resolved settings of the pre-training.
        method, data: of the pre-training.
        folder: of the run.
        overrides: of the command line.

    Raises:
        ConfigError: a requested evaluator does not apply, a setting does not fit the backbone or the data, or
            the features need more memory than is free.
    """
    if not cfg.get("evaluation"):
        return

    import torch

    from cim_lightning.evaluation.context import EvalContext
    from cim_lightning.evaluation.estimate import check_memory, feature_memory
    from cim_lightning.evaluation.suite import check_applicable

    factory = evaluation_trainer.planned_factory(evaluation_trainer.after_pretraining(cfg.trainer, folder))
    device = torch.device("cpu")
    context = EvalContext(method.eval_backbone, method, data, device, folder, 0, {}, trainer=factory)
    evaluators = from_checkpoint.build(cfg.evaluation)
    skipped = check_applicable(evaluators, context, requested_evaluators(overrides))
    used = {name: evaluator for name, evaluator in evaluators.items() if name not in skipped}
    check_memory(feature_memory(used, context))  # of one process: their number is not known yet


def evaluate(
    cfg: DictConfig, folder: Path, requested: Collection[str] = (), trusted_packages: Sequence[str] = ()
) -> None:
    """Run every evaluator that applies and has no cached result, and print the table.

    Args:
        cfg: settings of conf/evaluate.yaml, with the backbone if the checkpoint has none.
        folder: of the results.
        requested: evaluators that must apply.
        trusted_packages: whose classes the settings in the checkpoint may name, besides those of conf/.

    Raises:
        EvaluationError: an evaluator failed; the results of the others are written.
    """
    from cim_lightning.checkpoint import read_weights

    weights = read_weights(cfg.checkpoint)
    channels_given = cfg.data.get("channels") is not None
    from_checkpoint.fill_from_checkpoint(cfg, weights, trusted_packages)
    validate.check(cfg, "evaluate", HydraConfig.get().overrides.task)
    evaluation_trainer.check(cfg.trainer)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore
    data = from_checkpoint.build(cfg.data)
    # Missing images fail here, before anything slow.
    try:
        splits = current_sweep().datasets.open(data, settings["data"])
    except ConfigError as error:
        if error.parameter != "channels" or channels_given:
            raise
        hint = f"the backbone is for images of {error.value} channel(s)"
        raise ConfigError("channels", error.value, error.rule, hint=hint) from error
    evaluators = from_checkpoint.build(cfg.evaluation)
    data.bad_images.open(folder / BAD_FILES, keep=True)

    import torch

    from cim_lightning.evaluation.context import EvalContext
    from cim_lightning.evaluation.fingerprint import weights_hash
    from cim_lightning.evaluation.suite import evaluate
    from cim_lightning.evaluation.trainer_factory import result_settings as trainer_settings
    from cim_lightning.evaluation.trainer_factory import uses_trainer

    factory = evaluation_trainer.trainer_factory(cfg)
    trainer = factory.for_validation()
    device, processes = trainer.strategy.root_device, (trainer.global_rank, trainer.world_size)
    if trainer.global_rank:  # the first process speaks for all
        log.setLevel(logging.WARNING)
    torch.manual_seed(cfg.seed)  # for an untrained backbone
    method, backbone = from_checkpoint.load(weights, cfg.get("backbone"), trusted_packages)
    side = data.view.size
    backbone.check_size((side, side), "view_size")
    if backbone.in_channels != data.pixels.channels:
        rule = f"the backbone is for images of {backbone.in_channels} channel(s)"
        raise ConfigError("channels", data.pixels.channels, rule, suggest=backbone.in_channels)
    description = {"checkpoint": str(weights.path or cfg.checkpoint), "backbone": backbone.name}
    where = f"{device}, {processes[1]} processes" if processes[1] > 1 else device
    log.info("%s: evaluating %s (%s) on %s", folder, *description.values(), where)
    if backbone.loaded_weights is not None:
        log.info("weights: %s", backbone.loaded_weights)
    log.info("%s", splits.describe())
    if data.label_share is not None:
        log.info("%s", data.images("train").describe_labels())
    if weights.path is not None:
        version: dict[str, Any] = {"modified": weights.path.stat().st_mtime_ns}
    else:
        version = {"weights": weights_hash(backbone)} if backbone.loaded_weights else {}  # downloaded
    inputs = {name: settings.get(name) for name in ("data", "protocol", "backbone", "seed")}
    cache_key = result_settings(description | version | inputs)
    view = from_checkpoint.build(cfg.protocol) if cfg.get("protocol") else None
    context = EvalContext(
        backbone.to(device).eval(),
        method,
        data,
        device,
        folder,
        cfg.seed,
        cache_key,
        view,
        factory,
        *processes,
    )
    args = {
        name: cache_key
        | {"evaluator": result_settings(evaluator)}
        | ({"trainer": trainer_settings(trainer)} if uses_trainer(evaluators[name]) else {})
        for name, evaluator in settings["evaluation"].items()
    }
    description |= {"train_images": len(splits.train), "val_images": len(splits.val)}
    explain = functools.partial(messages.explain, command="evaluate", cfg=cfg)
    results = evaluate(evaluators, context, args, description, requested, explain)
    if context.rank == 0:
        print(results.table())
        data.bad_images.log_count(sum(map(len, splits[:2])))
    if failed := [f"{name} failed: {results.failed[name]}" for name in evaluators if name in results.failed]:
        raise EvaluationError(f"{'; '.join(failed)} (the other results are in {folder})")
