"""Logged curves, and the cost of a step for their horizontal axis."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cim_lightning.report.runs import Run

STEP = "step"
MAX_POINTS = 500  # per curve, to keep the page small
Item = TypeVar("Item")
AXES = {  # name -> title
    "epochs": "epochs",
    "images": "images seen",
    "TFLOP": "TFLOP of training, forward and backward",
    "seconds": "seconds of training",
    "steps": "optimizer steps",
}


class Curve(NamedTuple):
    """Values after numbers of optimizer steps."""

    steps: list[int]
    values: list[float]


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the columns of a `metrics.csv`, without unfinished lines and values that are not finite.

    Lightning counts steps from 0, so that step 24 is after 25 updates; but a validation at step 0 is before
    the first one.
    """
    curves: dict[str, Curve] = {}
    if not path.exists():
        return curves
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            step = _number(row.pop(STEP, None))
            if step is None or None in row or None in row.values():  # too many or too few cells
                continue
            for name, text in row.items():
                if (value := _number(text)) is not None:
                    untrained = step == 0 and name.startswith("val/")
                    curve = curves.setdefault(name, Curve([], []))
                    curve.steps.append(0 if untrained else int(step) + 1)
                    curve.values.append(value)
    return curves


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` (two or more) of the items, evenly spaced, with the first and the last."""
    n = len(items)
    return [*items] if n <= count else [items[round(i * (n - 1) / (count - 1))] for i in range(count)]


def step_costs(run: Run) -> dict[str, float]:
    """Return what one optimizer step of a run costs on average, on each axis for which the run recorded it.

    The seconds of an unfinished run are unknown.
    """
    numbers: dict[str, Any] = run.setup | run.numbers
    steps = max(numbers.get("steps", 0), 1)
    costs = {"steps": 1.0}
    if "seconds" in numbers:
        costs["seconds"] = numbers["seconds"] / steps
    images = numbers["images_seen"] / steps if "images_seen" in numbers else numbers.get("images_per_step")
    if images is not None:
        costs["images"] = images
        if "train_images" in numbers:
            costs["epochs"] = images / numbers["train_images"]
        if {"forward_flops_per_image", "backward_flops_per_image"} <= numbers.keys():
            flops = numbers["forward_flops_per_image"] + numbers["backward_flops_per_image"]
            costs["TFLOP"] = images * flops / 1e12
    return costs


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
