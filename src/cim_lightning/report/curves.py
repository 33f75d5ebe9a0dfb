"""Logged curves, and the cost of a step for their horizontal axis."""

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cim_lightning.report.columns import flops_per_image
from cim_lightning.report.runs import Run

STEP = "step"
MAX_POINTS = 500  # per curve, to keep the page small
AXES = {  # name -> title
    "epochs": "epochs",
    "images": "images seen",
    "TFLOP": "TFLOP of training, forward and backward",
    "seconds": "seconds of training",
    "steps": "optimizer steps",
}


class Curve(NamedTuple):
    """Values, and the number of optimizer steps before each."""

    steps: list[int]
    values: list[float]


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the columns of a `metrics.csv`, without unfinished lines and values that are not finite.

    Lightning counts steps from 0: step 24 is after 25 updates. A validation at step 0 is before training.
    """
    curves: dict[str, Curve] = {}
    if not path.exists():
        return curves
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            step = _number(row.pop(STEP, None))
            if not math.isfinite(step) or None in row or None in row.values():  # too many or too few cells
                continue
            for name, text in row.items():
                if math.isfinite(value := _number(text)):
                    untrained = step == 0 and name.startswith("val/")
                    curve = curves.setdefault(name, Curve([], []))
                    curve.steps.append(0 if untrained else int(step) + 1)
                    curve.values.append(value)
    return curves


def evenly_spaced(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` (two or more) of the items, evenly spaced, with the first and the last."""
    n = len(items)
    return [*items] if n <= count else [items[round(i * (n - 1) / (count - 1))] for i in range(count)]


def step_costs(run: Run) -> dict[str, float]:
    """Return the average cost of an optimizer step on each of AXES, as far as the run recorded it.

    The seconds of an unfinished run are unknown.
    """
    numbers: dict[str, Any] = run.setup | run.numbers
    steps = max(numbers.get("steps", 0), 1)
    costs = {"steps": 1.0}
    with suppress(KeyError):
        costs["seconds"] = numbers["seconds"] / steps
    with suppress(KeyError):
        images = numbers["images_seen"] / steps if "images_seen" in numbers else numbers["images_per_step"]
        costs["images"] = images
        with suppress(ZeroDivisionError, KeyError):
            costs["epochs"] = images / numbers["train_images"]
        costs["TFLOP"] = images * flops_per_image(numbers) / 1e12
    return costs


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
