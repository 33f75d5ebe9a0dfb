"""Runs as they lie in folders: what was asked of them, and what came of it."""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import yaml

log = logging.getLogger(__name__)
# Overrides that make no difference between two settings, and groups that cannot change what is trained.
PASSED_OVER = {"output_dir", "seed", "resume", "logger", "callbacks", "paths", "hydra", "evaluation"}
Read = TypeVar("Read")


@runtime_checkable
class Asked(Protocol):
    """Whatever was started by a command: a run, or a job that failed. Of a sweep's, what that swept."""

    @property
    def overrides(self) -> dict[str, str]: ...

    @property
    def swept(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Run:
    """One run of `cim-pretrain`.

    launch: the command that it was begun by (see doors.launch). settings: all of them, resolved. begun: what
    was known before its first step: what an image costs, machine, versions. numbers: see read_numbers.
    """

    folder: Path
    launch: dict[str, Any]
    settings: dict[str, Any]
    begun: dict[str, Any]
    numbers: dict[str, Any]

    @property
    def overrides(self) -> dict[str, str]:
        """What was typed, or what a sweep put in its place, by key."""
        return by_key(self.launch["overrides"])

    @property
    def swept(self) -> dict[str, str]:
        """Those that are the job's own in its sweep."""
        return by_key(self.launch["swept"])

    @property
    def choices(self) -> dict[str, Any]:
        """The file of each config group."""
        return self.launch["choices"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.numbers)


def read_runs(folder: Path) -> list[Run]:
    """The finished runs in a folder, at any depth, in the order of their folders' names."""
    return [run for run in read_begun(folder) if run.finished]


def read_begun(folder: Path) -> list[Run]:
    """The unfinished ones too, in the same order; what they measured so far lies in their `metrics.csv`."""
    return read_all(folder, "launch.json", read_run)


def read_all(folder: Path, name: str, read: Callable[[Path], Read]) -> list[Read]:
    """What lies in the folders, at any depth, that hold a file of that name, by their order.

    What cannot be read, such as a file that a kill left half-written, is told and passed over.
    """
    found = []
    for place in sorted((path.parent for path in folder.rglob(name)), key=_natural):
        try:
            found.append(read(place))
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning("%s: passed over, it cannot be read (%s)", place, reason)
    return found


def read_run(place: Path) -> Run:
    """The run that a folder holds."""
    launch, settings = told(place / "launch.json"), yaml.safe_load((place / "config.yaml").read_text())
    run = Run(place, launch, settings, told(place / "begun.json"), read_numbers(place))
    if (
        not {"door", "overrides", "choices", "cwd", "flags", "sweep", "swept"} <= launch.keys()
        or "seed" not in settings
    ):
        raise ValueError("its launch.json or config.yaml is not whole")
    return run


def read_numbers(place: Path) -> dict[str, Any]:
    """What came of a run: `metrics.json`, and that of its evaluation as "evaluation/..."; nothing before."""
    numbers = told(place / "metrics.json")
    if numbers:
        found = told(place / "evaluation" / "metrics.json")
        numbers |= {f"evaluation/{name}": value for name, value in found.items()}
    return numbers


def told(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides as they were typed, by the key that each is for."""
    return {key.lstrip("+"): value for key, _, value in (one.partition("=") for one in overrides)}


def differing(runs: Iterable[Asked]) -> list[str]:
    """Keys of the overrides that are not the same in all runs, or were to be; seeds are none of them."""
    runs = list(runs)
    asked, swept = [run.overrides for run in runs], {key for run in runs for key in run.swept}
    keys = dict.fromkeys(key for one in asked for key in one if matters(key))
    return [key for key in keys if key in swept or len({one.get(key) for one in asked}) > 1]


def matters(key: str) -> bool:
    """Whether runs that differ in an override are of different settings."""
    return key.partition(".")[0].partition("/")[0] not in PASSED_OVER


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
    named = [f"{groups[run.folder]}, seed {run.seed}" for run in runs]
    return [
        name if named.count(name) == 1 else f"{name} ({run.folder.name})"
        for name, run in zip(named, runs, strict=True)
    ]


def _natural(place: Path) -> list[tuple[bool, int, str]]:
    """A key to sort folders by, so that job 10 follows job 9."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in place.parts]
