"""Runs as they lie in folders: what was asked of them, and what came of it."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)
PASSED_OVER = ("output_dir", "seed", "resume")  # overrides that make no difference between two settings


@dataclass(frozen=True)
class Run:
    """One run of `cim-pretrain`.

    overrides: what was typed, or what a sweep put in its place, by key. choices: the file of each config
    group. settings: all of them, resolved. numbers: see read_numbers.
    """

    folder: Path
    overrides: dict[str, str]
    choices: dict[str, Any]
    settings: dict[str, Any]
    numbers: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.numbers)


@dataclass(frozen=True)
class Failure:
    """A job that came to no end, and why in one line; its traceback lies beside it."""

    folder: Path
    overrides: dict[str, str]
    reason: str


def write_failure(folder: Path, reason: str, trace: str) -> None:
    """Keeps why a job failed in its folder: `failure.json`, and the traceback in `failure.txt`."""
    (folder / "failure.txt").write_text(trace)
    (folder / "failure.json").write_text(json.dumps({"reason": reason, "traceback": "failure.txt"}) + "\n")


def forget_failure(folder: Path) -> None:
    """Of a job that has come to its end after all."""
    for name in ("failure.json", "failure.txt"):
        (folder / name).unlink(missing_ok=True)


def read_failures(folder: Path) -> list[Failure]:
    """The failed jobs in a folder, at any depth, in the order of their folders' names."""
    places = sorted((path.parent for path in folder.rglob("failure.json")), key=_natural)
    return [
        Failure(place, _overrides(place), json.loads((place / "failure.json").read_text())["reason"])
        for place in places
    ]


def read_runs(folder: Path) -> list[Run]:
    """The finished runs in a folder, at any depth, in the order of their folders' names."""
    places = sorted((path.parent for path in folder.rglob("metrics.json")), key=_natural)
    return [read_run(place) for place in places if (place / "config.yaml").exists()]


def read_begun(folder: Path) -> list[Run]:
    """The unfinished ones too, in the same order; what they measured so far lies in their `metrics.csv`."""
    places = sorted((path.parent for path in folder.rglob("config.yaml")), key=_natural)
    # wandb keeps a config.yaml too, in a folder that has nothing of Hydra's
    begun = (place for place in places if (place / ".hydra" / "hydra.yaml").exists())
    return [run for place in begun if (run := _try(place)) is not None]


def read_numbers(place: Path) -> dict[str, Any]:
    """What came of a run: `metrics.json`, and that of its evaluation as "evaluation/..."; nothing before."""
    measured = place / "metrics.json"
    numbers = json.loads(measured.read_text()) if measured.exists() else {}
    evaluation = place / "evaluation" / "metrics.json"
    if numbers and evaluation.exists():
        found = json.loads(evaluation.read_text())
        numbers |= {f"evaluation/{name}": value for name, value in found.items()}
    return numbers


def differing(runs: Iterable[Run | Failure]) -> list[str]:
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
    return Run(place, _overrides(place), hydra["runtime"]["choices"], settings, read_numbers(place))


def _overrides(place: Path) -> dict[str, str]:
    typed = yaml.safe_load((place / ".hydra" / "overrides.yaml").read_text())
    return {key.lstrip("+"): value for key, _, value in (one.partition("=") for one in typed)}


def _natural(place: Path) -> list[tuple[bool, int, str]]:
    """So that job 10 follows job 9."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in place.parts]
