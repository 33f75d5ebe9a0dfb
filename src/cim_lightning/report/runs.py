"""Runs as they lie in folders: what was asked of them, and what came of it."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

log = logging.getLogger(__name__)
PASSED_OVER = ("output_dir", "seed", "resume")  # overrides that make no difference between two settings


@runtime_checkable
class Asked(Protocol):
    """Whatever was started by a command: a run, or a job that failed."""

    @property
    def overrides(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Run:
    """One run of `cim-pretrain`.

    overrides: what was typed, or what a sweep put in its place, by key. choices: the file of each config
    group. settings: all of them, resolved. begun: what was known before its first step: what an image
    costs, machine, versions. numbers: see read_numbers.
    """

    folder: Path
    overrides: dict[str, str]
    choices: dict[str, Any]
    settings: dict[str, Any]
    begun: dict[str, Any]
    numbers: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.numbers)


def read_runs(folder: Path) -> list[Run]:
    """The finished runs in a folder, at any depth, in the order of their folders' names."""
    places = sorted((path.parent for path in folder.rglob("metrics.json")), key=natural)
    return [read_run(place) for place in places if (place / "config.yaml").exists()]


def read_begun(folder: Path) -> list[Run]:
    """The unfinished ones too, in the same order; what they measured so far lies in their `metrics.csv`."""
    places = sorted((path.parent for path in folder.rglob("config.yaml")), key=natural)
    # wandb keeps a config.yaml too, in a folder that has nothing of Hydra's
    begun = (place for place in places if (place / ".hydra" / "hydra.yaml").exists())
    return [run for place in begun if (run := _try(place)) is not None]


def read_numbers(place: Path) -> dict[str, Any]:
    """What came of a run: `metrics.json`, and that of its evaluation as "evaluation/..."; nothing before."""
    numbers = _told(place / "metrics.json")
    if numbers:
        found = _told(place / "evaluation" / "metrics.json")
        numbers |= {f"evaluation/{name}": value for name, value in found.items()}
    return numbers


def differing(runs: Iterable[Asked]) -> list[str]:
    """Keys of the overrides that are not the same in all runs; seeds are none of them."""
    asked = [run.overrides for run in runs]
    keys = dict.fromkeys(key for one in asked for key in one if key not in PASSED_OVER)
    return [key for key in keys if len({one.get(key) for one in asked}) > 1]


def grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seed alone, by what tells them from others: "rotation=15", or the method."""
    runs = list(runs)
    keys = differing(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if set(keys) <= {"compare", "method"}:
            name = run.choices["method"]
        else:
            name = ", ".join(f"{key}={run.overrides[key]}" for key in keys if key in run.overrides)
        groups.setdefault(name or "as shipped", []).append(run)
    return groups


def names(runs: Sequence[Run]) -> list[str]:
    """Setting and seed, in the order of the runs; the folder too where these are not enough."""
    groups = {run.folder: name for name, some in grouped(runs).items() for run in some}
    told = [f"{groups[run.folder]}, seed {run.seed}" for run in runs]
    return [
        name if told.count(name) == 1 else f"{name} ({run.folder.name})"
        for name, run in zip(told, runs, strict=True)
    ]


def _try(place: Path) -> Run | None:
    """A run that may be beginning right now, its files half-written."""
    try:
        run = read_run(place)
    except (OSError, ValueError, yaml.YAMLError) as error:
        log.warning("%s: passed over, it cannot be read (%s)", place, " ".join(str(error).split()))
        return None
    if "seed" not in run.settings:
        log.warning("%s: passed over, its config.yaml is not whole", place)
        return None
    return run


def read_run(place: Path) -> Run:
    """The run that a folder holds."""
    hydra = yaml.safe_load((place / ".hydra" / "hydra.yaml").read_text())["hydra"]
    settings = yaml.safe_load((place / "config.yaml").read_text()) or {}
    begun = _told(place / "begun.json")
    return Run(
        place, read_overrides(place), hydra["runtime"]["choices"], settings, begun, read_numbers(place)
    )


def _told(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def read_overrides(place: Path) -> dict[str, str]:
    """What was typed for a folder's run, or what a sweep put in its place, by key."""
    typed = yaml.safe_load((place / ".hydra" / "overrides.yaml").read_text())
    return {key.lstrip("+"): value for key, _, value in (one.partition("=") for one in typed)}


def natural(place: Path) -> list[tuple[bool, int, str]]:
    """A key to sort folders by, so that job 10 follows job 9."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in place.parts]
