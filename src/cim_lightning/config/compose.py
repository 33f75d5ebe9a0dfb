"""Composition: the folder of the configuration files, the defaults, and the resolvers of `${cim...}`."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cim_lightning.config.machine import num_cores
from cim_lightning.config.run_names import command_name, group_name, run_id, run_name, tags

PACKAGED = Path(__file__).parents[1] / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"


def default_config(command: str) -> DictConfig:
    """Return the configuration of a command, such as "pretrain", without overrides."""
    with initialized():
        return compose(command)


@contextmanager
def initialized() -> Iterator[None]:
    """Initialize Hydra, unless a command has done so."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield


def chosen_config(command: str, arguments: Sequence[str]) -> DictConfig:
    """Return the configuration of a command with the choices of groups in its arguments only."""
    chosen = [a for a in arguments if (CONF / a.lstrip("+~").partition("=")[0].partition("@")[0]).is_dir()]
    try:
        with initialized():
            return compose(command, overrides=chosen)
    except (HydraException, OmegaConfBaseException, ValueError):  # a choice is the mistake
        return default_config(command)


def choice_config(group: str, choice: str) -> DictConfig:
    """Return a configuration with one choice of a group, such as "vit_tiny_patch16" of "backbone", only."""
    with initialized():
        return compose(overrides=[f"+{group}={choice}"])


def register_resolvers() -> None:
    """Register the resolvers of conf/, such as `${cim.workers:}` for `_workers`."""
    for resolver in (
        _output_dir,
        _choices,
        _patch_pixels,
        _workers,
        _precision,
        _compile,
        _sync_batchnorm,
        _wandb_mode,
    ):
        OmegaConf.register_new_resolver(f"cim.{resolver.__name__[1:]}", resolver, replace=True)
    for resolver in (run_id, group_name, command_name, run_name, tags):
        # cached: several readers of one run must get the same value
        OmegaConf.register_new_resolver(f"cim.{resolver.__name__}", resolver, replace=True, use_cache=True)


def resolver_type(value: Any) -> type | None:
    """Return the type of a setting with a resolver as its value, `${cim.compile:...}`; None: it has none."""
    found = re.fullmatch(r"\$\{cim\.(\w+):.*\}", value) if isinstance(value, str) else None
    return None if found is None else globals()[f"_{found[1]}"].__annotations__["return"]


def _output_dir(checkpoint: str | None, kind: str = "evaluation") -> str:
    """Return the output folder of a checkpoint's evaluation or export, which is inside its run."""
    path = Path(checkpoint or "null")  # `validate.check` refuses null.expanduser()
    run = path.parents[1] if path.parent.name == "checkpoints" else path
    if run.is_dir():
        return str(run / kind)
    return str(run.parent / f"{run.stem}-{kind}") if run.exists() else f"outputs/{run.stem}-{kind}"


def _choices(folder: str) -> str:
    """Return a sweep over all choices in a folder of a group, "a/x,a/y" for the folder "group/a"."""
    loader: Any = GlobalHydra.instance().config_loader()
    _, _, prefix = f"{folder}/".partition("/")
    return ",".join(prefix + choice for choice in sorted(loader.get_group_options(folder)))


def _patch_pixels(backbone: DictConfig, times: int) -> int:
    """Return a multiple of the patch size in pixels, if it is in the settings of a backbone; else of 16."""
    found = re.match(r"vit\w*patch(\d+)", str(backbone.get("name")))
    kwargs = backbone.get("kwargs") or backbone
    return times * int(kwargs.get("patch_size", found[1] if found else 16))


def _workers() -> int:
    """Return the number of cores of this process without one for training; at most 16."""
    return min(max(num_cores() - 1, 1), 16)


def _precision(accelerator: str) -> str:
    """Return bf16 for a GPU with native bf16; emulated bf16 is many times slower than fp32."""
    if accelerator not in ("auto", "gpu", "cuda"):
        return "32-true"  # OmegaConf calls this also where `trainer=cpu` replaces the value

    import torch  # slow to import, as wandb is

    native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def _compile(accelerator: str) -> bool:
    """Return whether compiling makes training faster: on GPUs for which torch can generate kernels."""
    if accelerator not in ("auto", "gpu", "cuda"):
        return False

    import torch

    if not torch.cuda.is_available():
        return False

    from torch.utils._triton import has_triton  # imports the compiler, which takes seconds

    return has_triton()


def _sync_batchnorm(accelerator: str) -> bool:
    """Return whether torch supports batch-norm statistics over all devices: not on CPUs."""
    return accelerator != "cpu"


def _wandb_mode() -> str:
    """Return WANDB_MODE, else "online" with a login and "offline" without."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    os.environ.pop("WANDB_MODE", None)  # wandb refuses an empty value
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"
