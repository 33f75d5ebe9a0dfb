"""Where a run comes from: the command, the code and the machine."""

import shlex
from typing import Any

import yaml

from cim_lightning.report.runs import Run
from cim_lightning.versions import LIBRARIES

ABOUT = ("git_commit", "device", "devices", "precision", "python")
MODE = "hydra.mode="


def command(run: Run) -> str:
    """The command that makes this run; one of a sweep's by itself, into the folder that it has there."""
    hydra = _launch(run)
    asked = hydra["overrides"]["task"]
    if _swept(hydra):
        asked = [one for one in asked if not one.startswith("output_dir=")] + [f"output_dir={run.folder}"]
    return shlex.join([_door(hydra), *_flags(hydra), *asked])


def sweep_command(run: Run) -> str | None:
    """The command of the sweep that the run is a job of."""
    hydra = _launch(run)
    place = next(
        (p / "multirun.yaml" for p in run.folder.parents[:3] if (p / "multirun.yaml").exists()), None
    )
    if not _swept(hydra) or place is None:
        return None
    whole = yaml.safe_load(place.read_text())["hydra"]
    set_up = [one for one in whole["overrides"]["hydra"] if not one.startswith(MODE)]
    return shlex.join([_door(whole), *_flags(hydra), "-m", *set_up, *whole["overrides"]["task"]])


def where(run: Run) -> str:
    """The folder that the command was given in."""
    return _launch(run)["runtime"]["cwd"]


def environment(run: Run) -> dict[str, str]:
    """Commit, machine and versions, as far as the run got to record them."""
    recorded = run.begun | run.numbers
    known = {name.replace("_", " "): recorded.get(name) for name in (*ABOUT, *LIBRARIES)}
    return {name: str(value) for name, value in known.items() if value is not None}


def _launch(run: Run) -> dict[str, Any]:
    return yaml.safe_load((run.folder / ".hydra" / "hydra.yaml").read_text())["hydra"]


def _swept(hydra: dict[str, Any]) -> bool:
    return f"{MODE}MULTIRUN" in hydra["overrides"]["hydra"]


def _door(hydra: dict[str, Any]) -> str:
    return hydra["job"]["name"]


def _flags(hydra: dict[str, Any]) -> list[str]:
    """`--config-dir`, which Hydra keeps among its sources instead of the overrides."""
    sources = hydra["runtime"]["config_sources"]
    return [f"--config-dir={one['path']}" for one in sources if one["provider"] == "command-line"]
