"""Failed jobs: write and read `failure.json` in their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cim_lightning.atomic import atomic_write, read_json, write_json
from cim_lightning.report.file_checks import FAILURE, check_values
from cim_lightning.report.runs import Job, Run, differing_keys, is_own_file, parse_overrides, read_all

TRACE = "failure.txt"


@dataclass(frozen=True)
class Failure(Job):
    """A failed job, with the reason in one line and the traceback."""

    reason: str
    trace: str


def write(folder: Path, overrides: Sequence[str], swept: Sequence[str], reason: str, trace: str) -> None:
    """Write `failure.json`, and the traceback to `failure.txt`."""
    atomic_write(folder / TRACE, trace)
    content = {"reason": reason, "overrides": [*overrides], "swept": [*swept]}
    write_json(folder / "failure.json", content)


def clear(folder: Path) -> None:
    """Remove the failure of a job that starts again."""
    for name in ("failure.json", TRACE):
        (folder / name).unlink(missing_ok=True)


def read(folder: Path) -> list[Failure]:
    """Return the failed jobs in a folder, at any depth, sorted by folder."""
    return read_all(folder, "failure.json", _read)


def lines(failures: Sequence[Failure], runs: Sequence[Run]) -> list[str]:
    """Return one line per failed job: folder, overrides that distinguish it from other jobs, and reason."""
    keys = [*differing_keys([*failures, *runs]), "seed"]
    formatted = []
    for job in failures:
        overrides = " ".join(f"{key}={job.overrides[key]}" for key in keys if key in job.overrides)
        formatted.append(f"{job.folder.name}{f' ({overrides})' if overrides else ''}: {job.reason}")
    return formatted


def _read(folder: Path) -> Failure:
    content = read_json(folder / "failure.json")
    check_values("failure.json", content, FAILURE, required=True)
    overrides, swept = parse_overrides(content["overrides"]), parse_overrides(content["swept"])
    if not is_own_file(folder / TRACE, folder):
        raise ValueError(f"{TRACE} is a link to a file outside of the run")
    return Failure(folder, overrides, swept, content["reason"], (folder / TRACE).read_text())
