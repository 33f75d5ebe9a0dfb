"""Results of benchmarks: entries and claims, as files that a schema validates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema

from bench.environment import environment
from bench.interleave import Samples, Timing, speedup
from cim_lightning.atomic import write_json

RESULTS = Path(__file__).with_name("results")
SCHEMA = Path(__file__).with_name("schema.json")


@dataclass(frozen=True)
class Entry:
    """One row: the time of one variant of a stage.

    Args:
        stage: what is measured, such as "decode and crop"; entries of a stage form a table.
        variant: the implementation, such as "ours" or "torchvision v2 on Pillow".
        timing: per call; None for entries that only have other values.
        count: units per call, such as the images of a batch.
        unit: such as "image" or "step".
        baseline: the variant of the same stage that this one is compared with.
        floor: the least time that is possible, in milliseconds per unit, such as that of decoding alone.
        clock: what is compared, "cpu" or "wall".
        values: further numbers by title, such as {"peak memory, GB": 8.9}.
        note: a remark for the table.
    """

    stage: str
    variant: str
    timing: Timing | None = None
    count: int = 1
    unit: str = "call"
    baseline: str | None = None
    floor: float | None = None
    clock: str = "cpu"
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A limit that a measured number has to meet.

    Args:
        text: what is claimed, such as "bytes to view, against torchvision v2 on Pillow".
        measured: None if this machine cannot measure it.
        direction: "at most" or "at least".
        predicted: what was expected before the measurement.
    """

    text: str
    measured: float | None
    direction: str
    limit: float
    unit: str = ""
    predicted: float | None = None

    def __post_init__(self) -> None:
        assert self.direction in ("at most", "at least"), self.direction

    @property
    def holds(self) -> bool | None:
        """Whether the limit is met; None without a measurement."""
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.direction == "at most" else self.measured >= self.limit


@dataclass(frozen=True)
class Report:
    """What a script measured."""

    entries: Sequence[Entry]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()  # sentences for the page: what missed its prediction, and why


def merge(reports: Sequence[Report]) -> Report:
    """Return one report with the entries, claims and notes of all."""
    parts = (
        [part for report in reports for part in getattr(report, name)]
        for name in ("entries", "claims", "notes")
    )
    return Report(*parts)


def write(
    bench: str, report: Report, description: str = "", command: str = "", folder: Path = RESULTS
) -> Path:
    """Write the newest result of a script to `folder/<bench>.json`.

    Raises:
        jsonschema.ValidationError: the result does not fit the schema.
        ValueError: the baseline of an entry is missing.
    """
    content = {
        "bench": bench,
        "description": description,
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "environment": environment(),
        "entries": [_entry(entry, report.entries) for entry in report.entries],
        "claims": [asdict(claim) | {"holds": claim.holds} for claim in report.claims],
        "notes": list(report.notes),
    }
    validate(content)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{bench}.json"
    write_json(path, content)
    return path


def read(path: Path) -> dict[str, Any]:
    """Return a result, after validation."""
    content = json.loads(path.read_text())
    validate(content)
    return content


def validate(content: Any) -> None:
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))


def _entry(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    times = {
        name: _milliseconds(getattr(entry.timing, name), entry.count) if entry.timing else None
        for name in ("cpu", "wall")
    }
    return {
        **{name: getattr(entry, name) for name in ("stage", "variant", "unit", "count", "baseline")},
        **times,
        "ratio": _ratio(entry, entries),
        **{name: getattr(entry, name) for name in ("floor", "clock", "note")},
        "values": {title: _rounded(value) for title, value in entry.values.items()},
    }


def _milliseconds(samples: Samples, count: int) -> dict[str, float]:
    """Return the median and the quartiles per unit."""
    low, high = samples.quartiles
    numbers = {"median": samples.median, "low": low, "high": high}
    return {name: _rounded(value / count) for name, value in numbers.items()}


def _ratio(entry: Entry, entries: Sequence[Entry]) -> float | None:
    """Return how many times faster than its baseline an entry is, per unit."""
    if entry.baseline is None or entry.timing is None:
        return None
    for other in entries:
        if (other.stage, other.variant) == (entry.stage, entry.baseline) and other.timing:
            per_unit = entry.count / other.count
            return _rounded(speedup(other.timing, entry.timing, entry.clock) * per_unit)
    raise ValueError(f"{entry.stage}, {entry.variant}: no timing of the baseline {entry.baseline}")


def _rounded(value: float) -> float:
    """Return six significant digits."""
    return float(f"{value:.6g}")
