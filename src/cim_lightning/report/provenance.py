"""Where a run comes from: command, code and machine."""

import functools
import shlex
from pathlib import Path
from typing import Any

import yaml

from cim_lightning.report.runs import Run
from cim_lightning.versions import LIBRARIES

ENVIRONMENT = ("git_commit", "device", "devices", "precision", "python", *LIBRARIES)
MODE = "hydra.mode="


def command(run: Run) -> str:
    """Return the command that repeats this run alone, in its folder, even if it is a job of a sweep."""
    overrides = run.info["overrides"]
    if run.info["sweep"]:
        overrides = [text for text in overrides if not text.startswith("output_dir=")]
        overrides += [f"output_dir={run.folder}"]
    return shlex.join([run.info["command"], *run.info["config_dirs"], *overrides])


def sweep_command(run: Run) -> str | None:
    """Return the command of the run's sweep; None for a single run."""
    paths = [folder / "multirun.yaml" for folder in run.folder.parents[:3]]
    path = next((path for path in paths if path.exists()), None)
    if not run.info["sweep"] or path is None:
        return None
    overrides = _multirun(path)["overrides"]
    hydra = [text for text in overrides["hydra"] if not text.startswith(MODE)]
    return shlex.join([run.info["command"], *run.info["config_dirs"], "-m", *hydra, *overrides["task"]])


def environment(run: Run) -> dict[str, str]:
    """Return commit, machine and versions, as far as the run recorded them."""
    recorded = run.setup | run.numbers
    names = (name for name in ENVIRONMENT if recorded.get(name) is not None)
    return {name.replace("_", " "): str(recorded[name]) for name in names}


def image_changes(run: Run) -> dict[str, str]:
    """Return the changes of the images since the start of the run, and the steps from which it has them."""
    changes = [f"at step {entry['step']}: {entry['change']}" for entry in run.info.get("image_changes", [])]
    return {"changes of the images": "; ".join(changes)} if changes else {}


@functools.cache  # the file is slow to read, and all jobs of a sweep share it
def _multirun(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["hydra"]
