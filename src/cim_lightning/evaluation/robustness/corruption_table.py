"""Accuracy by corruption and severity: what it amounts to, and how it is kept."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from cim_lightning.evaluation.corruptions.catalog import SEVERITIES
from cim_lightning.evaluation.robustness.corruption_error import (
    CorruptionBaseline,
    mean_corruption_error,
    relative_mean_corruption_error,
    suffers,
)
from cim_lightning.evaluation.robustness.severity_plot import severity_plot

log = logging.getLogger(__name__)

Table = Mapping[str, Sequence[float]]  # accuracies, 0..1, at severities 1 to 5, by corruption


def summary(table: Table, clean: float, baseline: CorruptionBaseline | None) -> dict[str, float]:
    """Errors (0..1) by corruption, accuracies (0..1) by severity, and beside a baseline mCE in per cent."""
    if not table:
        return {}
    errors = {name: [1 - value for value in values] for name, values in table.items()}
    numbers = {f"error_{name}": fmean(values) for name, values in errors.items()}
    for i, severity in enumerate(SEVERITIES):
        numbers[f"accuracy_severity_{severity}"] = fmean(values[i] for values in table.values())
    numbers["mean_error_corrupted"] = fmean(numbers[f"error_{name}"] for name in errors)
    if baseline is not None:
        numbers["mce"] = mean_corruption_error(errors, baseline)
        if suffers(errors, baseline):
            numbers["relative_mce"] = relative_mean_corruption_error(errors, 1 - clean, baseline)
        else:
            log.warning("no relative mCE: %s does not suffer from all corruptions", baseline.name)
    return numbers


def keep(table: Table, clean: float, folder: Path) -> None:
    """Writes corruptions.csv and severity.png, both from the clean accuracy at severity 0 on."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "corruptions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["corruption", "severity", "accuracy"])
        for name, values in table.items():
            rows.writerows([name, severity, value] for severity, value in enumerate([clean, *values]))
    severity_plot(table, clean, folder / "severity.png")
