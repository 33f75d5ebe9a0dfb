"""Data, method and trainer of a pre-training run, built from its settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.utils import get_object
from omegaconf import DictConfig

from cim_lightning.config.from_checkpoint import build, without_weights
from cim_lightning.config.monitors import check_monitors
from cim_lightning.config.trainer_settings import has_budget
from cim_lightning.errors import ConfigError

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
    from lightning.pytorch.loggers import Logger

    from cim_lightning.checkpoint_io import AtomicCheckpointIO
    from cim_lightning.cropping.cropper import Cropper
    from cim_lightning.lightning_internals import leave_signals

    cfg = DictConfig(without_weights(settings) if resumed else settings)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build(cfg.data)
    train_images = open_images(data).train  # missing images fail here, before anything slow
    crops = data.dummy_batch(1)
    if check_batch := getattr(get_object(cfg.method._target_), "check_batch", None):
        check_batch(crops)  # before anything that depends on the crops is built
    method = build(cfg.method)
    method.backbone.check_channels(data.pixels.channels)
    method.save_hyperparameters(settings)
    method.prepare(crops, len(train_images.classes) if train_images.classes else None)
    callbacks, loggers = _build_checked(cfg, "callbacks", L.Callback), _build_checked(cfg, "logger", Logger)
    check_monitors(callbacks, method)
    length = _length(cfg, data, method, processes)
    plugins = [*build(cfg.trainer.get("plugins") or []), AtomicCheckpointIO()]
    parts = {"callbacks": [*callbacks.values()], "logger": [*loggers.values()], "plugins": plugins}
    trainer = leave_signals(build(cfg.trainer, **parts, **length))
    if cfg.compile:
        method.compile_networks(cfg.compile_mode)
        if isinstance(data.cropping, Cropper):
            data.cropping.compile(data.batch_size)
    return Run(method, data, trainer, settings)


def build_group(group: Any) -> list[Any]:
    """Build all members of a config group except null."""
    return [member for member in build(group or {}).values() if member is not None]


def _build_checked(cfg: DictConfig, group: str, kind: type) -> dict[str, Any]:
    """Build all members of a group except null, by path, and require that Lightning accepts them."""
    members = {}
    for name, settings in (cfg.get(group) or {}).items():
        if settings is not None:
            members[f"{group}.{name}"] = member = build(settings)
            if not isinstance(member, kind):
                rule, hint = f"must be a {kind.__name__} of Lightning", f"try {group}.{name}=null"
                raise ConfigError(f"{group}.{name}._target_", settings["_target_"], rule, hint=hint)
    return members


def _length(cfg: DictConfig, data: Any, method: Any, processes: int) -> dict[str, int]:
    """Return the length of training as arguments of the trainer, if a budget or the method sets it."""
    if not method.trains:
        return {"max_steps": 0}
    if not has_budget(cfg):
        return {}
    from cim_lightning.flops import flops_per_image, images_to_count

    accumulate = cfg.trainer.get("accumulate_grad_batches") or 1
    images = method.batch_size * accumulate * processes
    flops = flops_per_image(method, data.dummy_batch(images_to_count(method.batch_size)))
    return {"max_steps": build(cfg.budget).max_steps(sum(flops), images), "max_epochs": -1}
