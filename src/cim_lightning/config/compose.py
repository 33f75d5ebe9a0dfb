"""Configurations: where they lie, what they are without an override, and what the machine decides."""

import os
import re
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import run_names

PACKAGED = Path(__file__).parents[1] / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"


def defaults(door: str) -> DictConfig:
    """A door's configuration without a single override, to suggest from."""
    if GlobalHydra.instance().is_initialized():
        return compose(door)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(door)


def register_resolvers() -> None:
    """cim.workers, cim.precision and cim.wandb_mode, which the machine decides; cim.beside and cim.patch.

    And what a run is called: cim.run_id, cim.group, cim.command, cim.name, cim.tags and cim.project.
    """
    OmegaConf.register_new_resolver("cim.beside", _beside, replace=True)
    OmegaConf.register_new_resolver("cim.patch", _patch, replace=True)
    OmegaConf.register_new_resolver("cim.workers", _workers, replace=True)
    OmegaConf.register_new_resolver("cim.precision", _precision, replace=True)
    OmegaConf.register_new_resolver("cim.wandb_mode", _wandb_mode, replace=True)
    called = (
        run_names.run_id,
        run_names.group,
        run_names.command,
        run_names.name,
        run_names.tags,
        run_names.project,
    )
    for what in called:
        # asked once a run, since what reads it asks more than once and must hear the same
        OmegaConf.register_new_resolver(f"cim.{what.__name__}", what, replace=True, use_cache=True)


def _beside(checkpoint: str, what: str = "evaluation") -> str:
    """Where what comes of a checkpoint lies: beside what was trained, so that it is found again."""
    path = Path(checkpoint).expanduser()
    run = path.parents[1] if path.parent.name == "checkpoints" else path
    if run.is_dir():
        return str(run / what)
    return str(run.parent / f"{run.stem}-{what}") if run.exists() else f"outputs/{run.stem}-{what}"


def _patch(backbone: DictConfig, times: int) -> int:
    """Side in pixels of so many patches of a ViT, as its settings or name say; of 16 for other families."""
    name = str(backbone.name)
    said = re.search(r"patch(\d+)", name) if name.startswith("vit") else None
    return times * int(backbone.kwargs.get("patch_size", said[1] if said else 16))


def _workers() -> int:
    """Decoding processes: the cores that this process may use, but for the one that trains; 16 at most."""
    return min(max(_cores() - 1, 1), 16)


def _cores() -> int:
    """That this process may use; macOS does not say, so all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _precision(accelerator: str) -> str:
    """bf16 where the hardware computes in it; emulated bf16 is many times slower than fp32."""
    import torch  # here and below: what takes seconds to import waits until it is needed

    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _wandb_mode() -> str:
    """What WANDB_MODE says; else online where somebody is logged in, and offline where asking would block."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"
