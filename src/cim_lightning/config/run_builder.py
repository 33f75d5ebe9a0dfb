"""Data, method and trainer of a pre-training run, built from its settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from cim_lightning.config.from_checkpoint import build, without_weights

if TYPE_CHECKING:  # both import torch, which takes seconds
    import lightning as L


class Run(NamedTuple):
    """Parts of a pre-training run. `run.trainer.fit(run.method, run.data)` trains it."""

    method: Any  # a Method
    data: Any  # an ImageData
    trainer: "L.Trainer"
    settings: dict[str, Any]  # resolved; `method.save_hyperparameters` has stored them for the checkpoint


def build_run(
    settings: dict[str, Any],
    processes: int = 1,
    open_images: Callable[[Any], Any] = lambda data: data.splits,
    resumed: bool = False,
) -> Run:
    """Seed all random streams and build the parts of a run.

    Args:
        settings: resolved.
        processes: number of processes of the run, over which a budget is divided.
        open_images: opens the images of a data module and returns its training and validation splits.
        resumed: whether a checkpoint replaces the weights that the run started from, which are not read then.

    Raises:
        ConfigError: the images cannot be opened, or two settings do not fit together.
    """
    import lightning as L

    cfg = DictConfig(without_weights(settings) if resumed else settings)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build(cfg.data)
    train_images = open_images(data).train  # missing images fail here, before anything slow
    method = build(cfg.method)
    method.backbone.check_channels(data.pixels.channels)
    method.save_hyperparameters(settings)
    method.prepare(data.dummy_batch(1), len(train_images.classes) if train_images.classes else None)
    callbacks, loggers = build_group(cfg.get("callbacks")), build_group(cfg.get("logger"))
    length = _length(cfg, data, method, processes)
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers, **length)
    if cfg.compile:
        method.compile_networks()
    return Run(method, data, trainer, settings)


def build_group(group: Any) -> list[Any]:
    """Build all members of a config group except null."""
    return [member for member in build(group or {}).values() if member is not None]


def _length(cfg: DictConfig, data: Any, method: Any, processes: int) -> dict[str, int]:
    """Return the length of training as arguments of the trainer, if a budget or the method sets it."""
    if not method.trains:
        return {"max_steps": 0}
    if cfg.get("budget") is None:
        return {}
    from cim_lightning.flops import NUM_IMAGES, flops_per_image

    accumulate = cfg.trainer.get("accumulate_grad_batches") or 1
    images = method.batch_size * accumulate * processes
    flops = flops_per_image(method, data.dummy_batch(NUM_IMAGES))
    return {"max_steps": build(cfg.budget).max_steps(sum(flops), images), "max_epochs": -1}
