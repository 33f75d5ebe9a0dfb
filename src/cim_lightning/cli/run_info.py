"""By which command a run was begun: `launch.json`, for reports and for the same command later.

Hydra keeps the same in `.hydra/`, but before a run may be refused, over that of the run that lies there.
"""

import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from cim_lightning.atomic import atomic_write
from cim_lightning.config import run_names


def record(folder: Path) -> None:
    """Keeps what was typed for the job that Hydra is at, or what a sweep put in its place."""
    atomic_write(folder / "launch.json", json.dumps(asked(), indent=2) + "\n")


def asked() -> dict[str, Any]:
    """door, overrides, choices of config groups, cwd, flags, sweep (whether it is one's job), swept."""
    hydra: Any = HydraConfig.get()
    sources, overrides = hydra.runtime.config_sources, list(hydra.overrides.task)
    swept = hydra.mode is RunMode.MULTIRUN
    return {
        "door": hydra.job.name,
        "overrides": overrides,
        "choices": OmegaConf.to_container(hydra.runtime.choices),
        "cwd": hydra.runtime.cwd,
        # Hydra keeps `--config-dir` among its sources instead of the overrides
        "flags": [f"--config-dir={one.path}" for one in sources if one.provider == "command-line"],
        "sweep": swept,
        "swept": run_names.own(overrides, Path(hydra.sweep.dir)) if swept else [],
    }
