"""Jobs that failed, as they lie in folders: what was asked of them, and why they came to no end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cim_lightning.atomic import atomic_write
from cim_lightning.report.runs import Run, by_key, differing, read_all, told


@dataclass(frozen=True)
class Failure:
    """A job that came to no end, and why: in one line, and as a traceback. See Run for the rest."""

    folder: Path
    overrides: dict[str, str]
    swept: dict[str, str]
    reason: str
    trace: str


def write(folder: Path, overrides: Sequence[str], swept: Sequence[str], reason: str, trace: str) -> None:
    """Keeps why a job failed in its folder: `failure.json`, and the traceback in `failure.txt`."""
    said = {"reason": reason, "traceback": "failure.txt", "overrides": [*overrides], "swept": [*swept]}
    atomic_write(folder / "failure.txt", trace)
    atomic_write(folder / "failure.json", json.dumps(said, indent=2) + "\n")


def forget(folder: Path) -> None:
    """Of a job that is begun again."""
    for name in ("failure.json", "failure.txt"):
        (folder / name).unlink(missing_ok=True)


def read(folder: Path) -> list[Failure]:
    """The failed jobs in a folder, at any depth, in the order of their folders' names."""
    return read_all(folder, "failure.json", _read)


def _read(place: Path) -> Failure:
    said = told(place / "failure.json")
    trace = (place / said["traceback"]).read_text()
    return Failure(place, by_key(said["overrides"]), by_key(said["swept"]), said["reason"], trace)


def lines(failures: Sequence[Failure], runs: Sequence[Run]) -> list[str]:
    """A line a failed job: its folder's name, what tells it from the other jobs and the runs, and why."""
    keys = [*differing([*failures, *runs]), "seed"]
    said = []
    for one in failures:
        asked = " ".join(f"{key}={one.overrides[key]}" for key in keys if key in one.overrides)
        said.append(f"{one.folder.name}{f' ({asked})' if asked else ''}: {one.reason}")
    return said
