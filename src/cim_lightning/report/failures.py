"""Jobs that failed, as they lie in folders: what was asked of them, and why they came to no end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cim_lightning.report.runs import Run, differing, natural, read_overrides


@dataclass(frozen=True)
class Failure:
    """A job that came to no end, and why: in one line, and as a traceback."""

    folder: Path
    overrides: dict[str, str]
    reason: str
    trace: str


def write(folder: Path, reason: str, trace: str) -> None:
    """Keeps why a job failed in its folder: `failure.json`, and the traceback in `failure.txt`."""
    (folder / "failure.txt").write_text(trace)
    fresh = folder / "failure.tmp"
    fresh.write_text(json.dumps({"reason": reason, "traceback": "failure.txt"}) + "\n")
    fresh.replace(folder / "failure.json")  # never half a file


def forget(folder: Path) -> None:
    """Of a job that has come to its end after all."""
    for name in ("failure.json", "failure.txt"):
        (folder / name).unlink(missing_ok=True)


def read(folder: Path) -> list[Failure]:
    """The failed jobs in a folder, at any depth, in the order of their folders' names."""
    failures = []
    for place in sorted((path.parent for path in folder.rglob("failure.json")), key=natural):
        told = json.loads((place / "failure.json").read_text())
        trace = (place / told["traceback"]).read_text()
        failures.append(Failure(place, read_overrides(place), told["reason"], trace))
    return failures


def lines(failures: Sequence[Failure], runs: Sequence[Run]) -> list[str]:
    """A line a failed job: its folder's name, what tells it from the other jobs and the runs, and why."""
    keys = [*differing([*failures, *runs]), "seed"]
    told = []
    for one in failures:
        asked = " ".join(f"{key}={one.overrides[key]}" for key in keys if key in one.overrides)
        told.append(f"{one.folder.name}{f' ({asked})' if asked else ''}: {one.reason}")
    return told
