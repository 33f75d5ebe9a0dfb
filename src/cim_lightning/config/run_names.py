"""Id, name, group and tags of a run, as loggers show them beside other runs."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from cim_lightning.config.result_settings import FOLDER_SETTINGS

MAX_NAME, MAX_TAG = 128, 64  # characters, of wandb


def run_id(folder: str) -> str:
    """Return the id in a run's config.yaml; a new id for a new run and for a copy of another folder."""
    if given := os.environ.get("WANDB_RUN_ID"):  # an agent's, which waits for it
        return given
    here = Path(folder)
    saved, first = _saved(here)
    if saved and (here / "checkpoints" / "last.ckpt").exists():
        is_copy = first.resolve() != here.resolve() and _saved(first)[0] == saved
        if not is_copy:
            return saved
    return f"r{secrets.token_hex(4)}"  # with a letter in front: YAML would read 12345678 as a number


def group_name() -> str | None:
    """Return the folder name of the sweep; None for a single run."""
    hydra = _hydra()
    return _folder_name(Path(hydra.sweep.dir)) if hydra and hydra.mode is RunMode.MULTIRUN else None


def command_name() -> str | None:
    """Return the command that started the run."""
    hydra = _hydra()
    return hydra.job.name if hydra else None


def run_name() -> str | None:
    """Return the swept settings of a job, as "rotation=15, seed=1"; for a single run, the folder name."""
    hydra = _hydra()
    if hydra is None:
        return None
    if hydra.mode is not RunMode.MULTIRUN:
        return _folder_name(Path(hydra.runtime.output_dir))
    swept = [o.lstrip("+").partition("=") for o in job_overrides(hydra.overrides.task, Path(hydra.sweep.dir))]
    values = {key: value for key, _, value in swept if key not in FOLDER_SETTINGS}
    leaves = [key.rpartition(".")[2] for key in values]
    short = {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(values, leaves, strict=True)}
    text = ", ".join(f"{short[key]}={value}" for key, value in values.items())
    return text[:MAX_NAME] or _folder_name(Path(hydra.runtime.output_dir))


def job_overrides(overrides: Sequence[str], sweep_dir: Path) -> list[str]:
    """Return the overrides of a job that its sweep set, without those that all jobs share."""
    file = sweep_dir / "multirun.yaml"
    typed = yaml.safe_load(file.read_text())["hydra"]["overrides"]["task"] if file.exists() else []
    # Compared by key: Hydra writes a job's values in its own way, such as 1e-06 for 1.0e-6.
    parsed = OverridesParser.create().parse_overrides(typed)
    shared = {o.get_key_element().lstrip("+~") for o in parsed if not o.is_sweep_override()}
    return [o for o in overrides if o.lstrip("+~").partition("=")[0] not in shared]


def tags() -> list[str]:
    """Return the method, the backbone and the names of the experiments."""
    hydra = _hydra()
    choices = hydra.runtime.choices if hydra else {}
    experiments = choices.get("experiment") or []
    if isinstance(experiments, str):  # Hydra stores a list as text
        experiments = [e.strip() for e in experiments.strip("[]").split(",")]
    found = dict.fromkeys([choices.get("method"), choices.get("backbone"), *experiments])
    return [str(tag)[-MAX_TAG:] for tag in found if tag not in (None, "", "null")]


def _hydra() -> Any:
    """Return Hydra's own configuration; None outside a job."""
    hydra: Any = HydraConfig.get() if HydraConfig.initialized() else None
    return None if hydra is None or OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra


def _folder_name(folder: Path) -> str:
    """Return a folder's name, with the date in front if the name is a time of day."""
    return folder.name if any(map(str.isalpha, folder.name)) else f"{folder.parent.name}/{folder.name}"


def _saved(folder: Path) -> tuple[str | None, Path]:
    """Return the wandb id (if any) and the first folder of the run in a folder."""
    path = folder / "config.yaml"
    settings = OmegaConf.load(path) if path.exists() else OmegaConf.create()
    return OmegaConf.select(settings, "logger.wandb.id"), Path(
        OmegaConf.select(settings, "paths.run", default=folder)
    )
