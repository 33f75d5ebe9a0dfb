"""Compare finished runs: weights and numbers must be equal to the last bit, except those of the clock."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

CLOCK = ("train/images_per_s", "train/data_wait", "seconds", "images_per_s", "peak_memory_bytes")


def assert_same(found: Any, expected: Any, path: str = "") -> None:
    """Compare nested dictionaries and lists of tensors and plain values."""
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected), path
    elif isinstance(found, dict):
        assert found.keys() == expected.keys(), path
        for key in found:
            assert_same(found[key], expected[key], f"{path}.{key}")
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected), path
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{path}.{i}")
    else:
        assert found == expected, path


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the metrics.csv of a run, without the columns of the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics.json of a run, without the numbers of the clock and the commit."""
    values = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in values.items() if key not in (*CLOCK, "git_commit")}
