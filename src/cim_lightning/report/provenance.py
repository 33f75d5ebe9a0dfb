"""Where a run comes from: the command, the code and the machine."""

import functools
import shlex
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.report.runs import Run
from cim_lightning.versions import LIBRARIES

ABOUT = ("git_commit", "device", "devices", "precision", "python")
MODE = "hydra.mode="


def command(run: Run) -> str:
    """The command that makes this run; one of a sweep's by itself, into the folder that it has there."""
    asked = run.launch["overrides"]
    if run.launch["sweep"]:
        asked = [one for one in asked if not one.startswith("output_dir=")] + [f"output_dir={run.folder}"]
    return shlex.join([run.launch["door"], *run.launch["flags"], *asked])


def sweep_command(run: Run) -> str | None:
    """The command of the sweep that the run is a job of."""
    places = [folder / "multirun.yaml" for folder in run.folder.parents[:3]]
    place = next((path for path in places if path.exists()), None)
    if not run.launch["sweep"] or place is None:
        return None
    asked = _multirun(place)["overrides"]
    set_up = [one for one in asked["hydra"] if not one.startswith(MODE)]
    return shlex.join([run.launch["door"], *run.launch["flags"], "-m", *set_up, *asked["task"]])


def where(run: Run) -> str:
    """The folder that the command was given in."""
    return run.launch["cwd"]


def environment(run: Run) -> dict[str, str]:
    """Commit, machine and versions, as far as the run got to record them."""
    recorded = run.begun | run.numbers
    known = {name.replace("_", " "): recorded.get(name) for name in (*ABOUT, *LIBRARIES)}
    return {name: str(value) for name, value in known.items() if value is not None}


@functools.cache
def _multirun(path: Path) -> dict[str, Any]:
    """What Hydra knew of a sweep, which is the same for all its jobs and long to read."""
    return yaml.safe_load(path.read_text())["hydra"]
