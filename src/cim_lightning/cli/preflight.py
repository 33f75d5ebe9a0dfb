"""What is refused before it begins: sweeps that come to nothing, by their processes, machine or command."""

import shutil
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cim_lightning.errors import ConfigError

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
# Lightning starts the processes of other devices by the command itself, so each begins the whole sweep: with
# these sweepers and launchers they do not come to the same jobs.
SPOILT = {
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper": (
        "hydra/sweeper=optuna draws other settings in each process of a run"
    ),
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": (
        "hydra/launcher=joblib cannot start a run's other processes"
    ),
    RAY: "ray cannot start a run's other processes",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": (
        "hydra/launcher=submitit_local cannot start a run's other processes"
    ),
}
COPIED = ("spawn", "fork", "notebook")  # strategies whose processes are copies of the first


def refuse_several(hydra_cfg: DictConfig, trainer: DictConfig | None) -> None:
    """Holds a sweep's trainer against its sweeper and launcher.

    Raises:
        ConfigError: each run would take several processes, and they would not train the same.
    """
    chosen = {OmegaConf.select(hydra_cfg, f"{part}._target_") for part in ("sweeper", "launcher")}
    reasons = [reason for target, reason in SPOILT.items() if target in chosen]
    if reasons and trainer is not None and (typed := _several(trainer)):
        raise ConfigError(
            f"{typed}: {reasons[0]}; try trainer.strategy=auto trainer.devices=1"
            + ("" if "sweeper" in reasons[0] else ", or hydra/launcher=basic")
        )


def refuse_one_of_many(hydra_cfg: Any) -> None:
    """Holds a recipe that is a sweep against how it was asked for.

    Raises:
        ConfigError: it would be one run of what it has by default, which answers nothing. One with values
            typed for all that is swept is a run like any other.
    """
    swept = OmegaConf.select(hydra_cfg, "sweeper.params") or {}
    typed = {one.lstrip("+").partition("=")[0] for one in hydra_cfg.overrides.task}
    if hydra_cfg.mode is RunMode.RUN and not {"seed", *typed} >= set(swept):
        recipe = hydra_cfg.runtime.choices.get("experiment")
        over = ", ".join(swept)
        raise ConfigError(
            f"experiment={recipe}: is a sweep over {over}; try cim-pretrain -m experiment={recipe}"
        )


def refuse_launcher(hydra_cfg: DictConfig, trainer: DictConfig | None) -> None:
    """Holds a launcher against the machine.

    Raises:
        ConfigError: there is no Slurm; ray would wait for GPUs that are not there, or would begin all jobs
            on the first one, since none is given its own.
    """
    launcher: Any = OmegaConf.to_container(hydra_cfg.launcher, resolve=True)
    if launcher["_target_"] == SLURM and shutil.which("srun") is None:
        raise ConfigError("hydra/launcher=slurm: there is no srun here; try hydra/launcher=joblib")
    if launcher["_target_"] != RAY:
        return
    init, remote = launcher["ray"].get("init") or {}, launcher["ray"].get("remote") or {}
    if "num_gpus" in remote:
        here = init.get("address") is None and "num_gpus" not in init  # else ray knows of others
        if here and remote["num_gpus"] > _gpus():
            raise ConfigError(
                f"hydra.launcher.ray.remote.num_gpus={remote['num_gpus']}: this machine has {_gpus()}; "
                "try hydra.launcher.ray.remote.num_gpus=0, or hydra/launcher=joblib"
            )
    elif trainer is not None and trainer.get("accelerator") != "cpu" and _gpus():
        raise ConfigError(
            "hydra/launcher=ray: all jobs would begin on the first GPU; try hydra/launcher=gpus, "
            "which has one a GPU and lets the others queue"
        )


def _several(trainer: DictConfig) -> str | None:
    """The setting by which a run takes several processes; None where it takes one."""
    settings: dict[str, Any] = OmegaConf.to_container(trainer, resolve=True)  # pyright: ignore
    devices, nodes = settings.get("devices", "auto"), settings.get("num_nodes") or 1
    if nodes == 1 and (devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)):
        return None
    strategy = settings.get("strategy", "auto")
    name = str(strategy).lower()
    if any(word in name for word in COPIED):
        return None
    if any(word in name for word in ("ddp", "fsdp", "deepspeed")):
        return f"trainer.strategy={strategy}"
    return f"trainer.devices={devices}" if name == "auto" and _count(settings, devices) * nodes > 1 else None


def _count(settings: dict[str, Any], devices: Any) -> int:
    if isinstance(devices, list):
        return len(devices)
    if str(devices).isdigit():
        return int(devices)
    if settings.get("accelerator") == "cpu":
        return 1
    return max(_gpus(), 1)


def _gpus() -> int:
    import torch  # takes seconds to import, so only where the machine decides

    return torch.cuda.device_count()
