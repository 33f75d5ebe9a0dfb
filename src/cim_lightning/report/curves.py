"""What a run logged, as curves against what it had cost by then."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from cim_lightning.report.runs import Run

STEP = "step"
MOST_POINTS = 500  # of a curve; more would be seen by nobody, and a page must stay small


class Axis(NamedTuple):
    """What a curve can stand against."""

    name: str
    title: str


AXES = (
    Axis("epochs", "epochs"),
    Axis("images", "images seen"),
    Axis("TFLOP", "TFLOP of training, forward and backward"),
    Axis("seconds", "seconds of training"),
    Axis("steps", "optimizer steps"),
)


class Curve(NamedTuple):
    """Values after so many optimizer steps."""

    steps: list[int]
    values: list[float]


def read_curves(path: Path) -> dict[str, Curve]:
    """The columns of a `metrics.csv`; half-written lines, and what is not finite, are skipped.

    Lightning numbers steps from 0, so that step 24 stands behind 25 updates; but a validation at step 0 is
    that of the untrained network.
    """
    curves: dict[str, Curve] = {}
    if not path.exists():
        return curves
    with path.open(newline="", errors="replace") as file:
        rows = csv.reader(line for line in file if line.endswith("\n"))
        columns = next(rows, [])
        if STEP not in columns:
            return curves
        for row in rows:
            said = dict(zip(columns, row, strict=False))
            if len(row) != len(columns) or (step := _number(said.pop(STEP))) is None:
                continue
            for name, text in said.items():
                if (value := _number(text)) is not None:
                    curve = curves.setdefault(name, Curve([], []))
                    untrained = step == 0 and name.startswith("val/")
                    curve.steps.append(0 if untrained else int(step) + 1)
                    curve.values.append(value)
    return curves


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most so many of a curve's points, evenly chosen, the first and the last among them."""
    n = len(curve.steps)
    if n <= most:
        return curve
    kept = [round(i * (n - 1) / (most - 1)) for i in range(most)]
    return Curve([curve.steps[i] for i in kept], [curve.values[i] for i in kept])


def step_costs(run: Run) -> dict[str, float]:
    """What one optimizer step is on every axis, on the average of the run, as far as it recorded that.

    An unfinished run knows how many images a step has, but its seconds are recorded at the end.
    """
    numbers = run.begun | run.numbers
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


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
