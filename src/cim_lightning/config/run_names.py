"""What a run is called where runs of many are looked at together: its id, name, group and tags."""

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

LONGEST_NAME, LONGEST_TAG = 128, 64  # that wandb takes
NOT_TOLD = ("output_dir", "resume", "hydra.run.dir")  # of a job: where it lies, not what it is


def run_id(folder: str) -> str:
    """The id that a run keeps while it goes on; a new one for a run begun anew, or in a copy of its folder.

    It is kept in the run's config.yaml. Of two folders that hold one run, the one that it was begun in has
    it; a folder that was moved keeps it.
    """
    if given := os.environ.get("WANDB_RUN_ID"):  # an agent's, which waits for it
        return given
    here = Path(folder)
    kept = _kept(here)
    if kept is not None and (here / "checkpoints" / "last.ckpt").exists():
        begun = Path(kept["paths"]["run"])
        known = kept["logger"]["wandb"]["id"]
        original = None if begun.resolve() == here.resolve() else _kept(begun)
        if original is None or original["logger"]["wandb"]["id"] != known:
            return known
    return f"r{secrets.token_hex(4)}"  # with a letter in front: YAML would read 12345678 as a number


def project() -> str:
    """Where wandb keeps the runs."""
    return os.environ.get("WANDB_PROJECT", "cim-lightning")


def group() -> str | None:
    """The sweep that a run is a job of, by its folder's name; no group for a run by itself."""
    hydra = _hydra()
    return _named(Path(hydra.sweep.dir)) if hydra and hydra.mode is RunMode.MULTIRUN else None


def command() -> str | None:
    """The command that a run is made by."""
    hydra = _hydra()
    return hydra.job.name if hydra else None


def name() -> str | None:
    """What tells a job from others of its sweep; of a run by itself, its folder."""
    hydra = _hydra()
    if hydra is None:
        return None
    if hydra.mode is not RunMode.MULTIRUN:
        return _named(Path(hydra.runtime.output_dir))
    swept = [one.lstrip("+").partition("=") for one in own(hydra.overrides.task, Path(hydra.sweep.dir))]
    swept = [(key, value) for key, _, value in swept if key not in NOT_TOLD]
    short = [key.rpartition(".")[2] for key, _ in swept]
    told = [(key if short.count(last) > 1 else last) for (key, _), last in zip(swept, short, strict=True)]
    whole = ", ".join(f"{key}={value}" for key, (_, value) in zip(told, swept, strict=True))
    return whole[:LONGEST_NAME] or _named(Path(hydra.runtime.output_dir))


def own(overrides: Sequence[str], sweep: Path) -> list[str]:
    """A job's overrides without those that were typed for all jobs of its sweep alike."""
    place = sweep / "multirun.yaml"
    typed = yaml.safe_load(place.read_text())["hydra"]["overrides"]["task"] if place.exists() else []
    # By their keys: Hydra writes a job's values in its own way, as 1e-06 for 1.0e-6.
    parsed = OverridesParser.create().parse_overrides(typed)
    same = {one.get_key_element().lstrip("+~") for one in parsed if not one.is_sweep_override()}
    return [one for one in overrides if one.lstrip("+~").partition("=")[0] not in same]


def tags() -> list[str]:
    """Method, backbone and, of a recipe, its name: the question that it asks."""
    hydra = _hydra()
    choices = hydra.runtime.choices if hydra else {}
    experiments = choices.get("experiment") or []
    if isinstance(experiments, str):  # Hydra keeps a list as its text
        experiments = [one.strip() for one in experiments.strip("[]").split(",")]
    said = [choices.get("method"), choices.get("backbone"), *experiments]
    return [str(one)[-LONGEST_TAG:] for one in dict.fromkeys(said) if one not in (None, "", "null")]


def _hydra() -> Any:
    """What Hydra knows of the job; nothing where a configuration was composed by hand."""
    hydra: Any = HydraConfig.get() if HydraConfig.initialized() else None
    return None if hydra is None or OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra


def _named(folder: Path) -> str:
    """A folder's name; one that is a time of day has its date in front."""
    return folder.name if any(map(str.isalpha, folder.name)) else f"{folder.parent.name}/{folder.name}"


def _kept(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in a folder, if it has an id."""
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text()) if path.exists() else None
    online = ((settings or {}).get("logger") or {}).get("wandb") or {}
    return settings if online.get("id") else None
