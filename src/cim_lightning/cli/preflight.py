"""Check whether a recipe or a sweep can run with this command and on this machine."""

import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config import resume, validate
from cim_lightning.config.call_signatures import check_calls
from cim_lightning.config.doubtful_settings import doubtful_settings
from cim_lightning.config.unused_evaluators import drop_unused
from cim_lightning.errors import ConfigError

# Lightning repeats the command for each other device, so every process starts the whole sweep.
# With these classes of sweepers and launchers, the processes would not run the same jobs.
SINGLE_PROCESS = {
    "OptunaSweeper": "hydra/sweeper=optuna",
    "JoblibLauncher": "hydra/launcher=joblib",
    "LocalLauncher": "hydra/launcher=submitit_local",
    "RayLauncher": "hydra/launcher=ray",
}


def check_settings(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Check the settings of a pre-training before anything is built; remove evaluators that do not run.

    Args:
        cfg: of `cim-pretrain`.
        overrides: of the command line.

    Returns:
        One line per setting that is valid, but has no effect or wastes work.

    Raises:
        ConfigError: a setting is wrong.
    """
    if cfg.get("evaluation"):
        OmegaConf.set_struct(cfg.evaluation, False)
        drop_unused(cfg.evaluation, overrides)
    validate.check(cfg, "pretrain", overrides)
    check_calls(cfg)
    resume.check_exists(cfg.resume)
    return doubtful_settings(cfg, overrides)


def check_recipe(hydra_cfg: Any) -> None:
    """Refuse a sweep recipe without -m, unless the command sets all swept settings.

    Raises:
        ConfigError: the run would have the defaults of the swept settings.
    """
    swept = OmegaConf.select(hydra_cfg, "sweeper.params") or {}
    given = {override.lstrip("+").partition("=")[0] for override in hydra_cfg.overrides.task}
    if hydra_cfg.mode is RunMode.RUN and not {"seed", *given} >= set(swept):
        recipe, rule = hydra_cfg.runtime.choices.get("experiment"), f"is a sweep over {', '.join(swept)}"
        raise ConfigError("experiment", recipe, rule, hint=f"try cim-pretrain -m experiment={recipe}")


def check_processes(hydra_cfg: DictConfig, trainer: DictConfig | None) -> None:
    """Check that the sweeper and the launcher support the number of processes per run.

    Raises:
        ConfigError: a run has several processes, and they would not run the same jobs.
    """
    if trainer is None or not (name := _setting_with_several_processes(trainer)):
        return
    for part in ("sweeper", "launcher"):
        if choice := SINGLE_PROCESS.get(_class_name(hydra_cfg, part)):
            hint = "try trainer.strategy=auto trainer.devices=1"
            hint += ", or hydra/launcher=basic" if part == "launcher" else ""
            rule = f"{choice} supports one process per run"
            raise ConfigError(f"trainer.{name}", trainer.get(name, "auto"), rule, hint=hint)


def check_launcher(hydra_cfg: DictConfig, trainer: DictConfig | None) -> None:
    """Check that this machine has what the launcher needs.

    Raises:
        ConfigError: there is no Slurm; ray would wait for missing GPUs, or start all jobs on the first GPU.
    """
    launcher = _class_name(hydra_cfg, "launcher")
    if launcher == "SlurmLauncher" and shutil.which("srun") is None:
        raise ConfigError("hydra/launcher", "slurm", "this machine has no srun", suggest="joblib")
    if launcher != "RayLauncher":
        return
    ray = hydra_cfg.launcher.ray
    init, remote = ray.get("init") or {}, ray.get("remote") or {}
    if "num_gpus" in remote:
        local = init.get("address") is None and "num_gpus" not in init
        if local and remote["num_gpus"] > _num_gpus():
            name, rule = "hydra.launcher.ray.remote.num_gpus", f"this machine has {_num_gpus()}"
            hint = f"try {name}=0, or hydra/launcher=joblib"
            raise ConfigError(name, remote["num_gpus"], rule, hint=hint)
    elif trainer is not None and trainer.get("accelerator") != "cpu" and _num_gpus():
        rule = "all its jobs would use the first GPU"
        raise ConfigError("hydra/launcher", "ray", rule, suggest="gpus")


def num_processes(trainer: Mapping[str, Any]) -> int:
    """Return the processes of a run over all nodes; devices=auto uses every GPU of this machine."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, str) and "," in devices:
        devices = devices.strip(",").split(",")
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        count = len(devices)
    elif str(devices).isdigit():
        count = int(devices)
    else:  # auto, or -1
        count = 1 if trainer.get("accelerator") == "cpu" else max(_num_gpus(), 1)
    return count * (trainer.get("num_nodes") or 1)


def _setting_with_several_processes(trainer: Mapping[str, Any]) -> str | None:
    """Return the setting of the trainer that makes Lightning repeat the command; None if it does not."""
    strategy, devices = str(trainer.get("strategy", "auto")).lower(), trainer.get("devices", "auto")
    if re.search("spawn|fork|notebook", strategy):  # these copy the first process instead
        return None
    if re.search("ddp|fsdp|deepspeed", strategy):
        single = devices not in ("auto", -1, "-1") and num_processes(trainer) == 1
        return None if single else "strategy"
    return "devices" if strategy == "auto" and num_processes(trainer) > 1 else None


def _class_name(hydra_cfg: DictConfig, part: str) -> str:
    return str(OmegaConf.select(hydra_cfg, f"{part}._target_")).rpartition(".")[2]


def _num_gpus() -> int:
    import torch  # slow to import

    return torch.cuda.device_count()
