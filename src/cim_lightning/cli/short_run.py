"""Runs of a few steps without files of their own, for `cim-doctor`."""

import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli.preflight import num_processes

CPU_IMAGES = 16  # largest batch on a CPU, whose speed hardly depends on it


def short_settings(cfg: DictConfig, run: Any, steps: int) -> DictConfig:
    """Return the configuration of a few steps on one device, without files of its own."""
    short = cfg.copy()
    OmegaConf.set_struct(short, False)
    on_cpu = run.trainer.strategy.root_device.type == "cpu"
    images = min(run.data.batch_size, len(run.data.splits.train), CPU_IMAGES if on_cpu else sys.maxsize)
    short.data.batch_size = images
    short.budget = None
    step_seed = {key: value for key, value in short.callbacks.items() if key == "step_seed"}
    short.callbacks = step_seed
    short.trainer.merge_with(
        {
            **{"devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": -1, "max_steps": steps},
            **{"limit_val_batches": 0, "limit_train_batches": 1.0},
            **{"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False},
        }
    )
    return short


def build(cfg: DictConfig, splits: Any = None, resumed: bool = False) -> Any:
    """Build a run without loggers.

    Args:
        cfg: of `cim-pretrain`.
        splits: images that are open already; None: they are opened.
        resumed: whether a checkpoint replaces the first weights.
    """
    from cim_lightning.config.run_builder import build_run

    cfg = cfg.copy()
    cfg.logger = None  # nothing is logged
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore

    def open_images(data: Any) -> Any:
        if splits is not None:
            data.splits = splits
        return data.splits

    return build_run(settings, num_processes(settings["trainer"]), open_images, resumed)
