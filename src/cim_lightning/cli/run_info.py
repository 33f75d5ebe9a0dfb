"""`run.json`: the command that started a run, for reports and to find the run again.

Hydra writes similar files to `.hydra/`, but before a command can be refused. They replace those of an
earlier run in the folder.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from cim_lightning.config import run_names


def run_info() -> dict[str, Any]:
    """Return what started the current job.

    Returns:
        command: such as "cim-pretrain".
        overrides: of this job, with the values that a sweep set.
        choices: option of every config group.
        cwd: working directory of the command.
        config_dirs: --config-dir flags, which Hydra does not count among the overrides.
        sweep: whether the job belongs to a sweep.
        swept: the overrides that differ between the jobs of the sweep.
    """
    hydra: Any = HydraConfig.get()
    sources, overrides = hydra.runtime.config_sources, list(hydra.overrides.task)
    sweep = hydra.mode is RunMode.MULTIRUN
    return {
        "command": hydra.job.name,
        "overrides": overrides,
        "choices": OmegaConf.to_container(hydra.runtime.choices),
        "cwd": hydra.runtime.cwd,
        "config_dirs": [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"],
        "sweep": sweep,
        "swept": run_names.job_overrides(overrides, Path(hydra.sweep.dir)) if sweep else [],
    }
