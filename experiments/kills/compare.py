"""Compare two finished runs: weights, optimizer, EMA, and results must be equal to the last bit."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# Measured with a clock, or of the system and the code.
MEASURED = {"seconds", "images_per_s", "data_wait", "peak_memory_bytes", "git_commit"}
# Of a checkpoint: the settings have the folder of the run, and Lightning counts validations per process.
IGNORED = {"hyper_parameters", "validate_loop"}


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two folders of runs; [] if nothing does."""
    found = [f"last.ckpt{where}" for where in _unequal(_checkpoint(one), _checkpoint(other))]
    found += [f"metrics.json{where}" for where in _unequal(_numbers(one), _numbers(other))]
    found += [f"metrics.csv{where}" for where in _unequal(_rows(one), _rows(other))]
    weights = [(folder / "backbone.safetensors").read_bytes() for folder in (one, other)]
    return found + (["backbone.safetensors"] if weights[0] != weights[1] else [])


def _checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def _numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def _unequal(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the places at which two nested values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = ({_plain(key): value for key, value in part.items()} for part in (one, other))
        for key in sorted({*one, *other}, key=str):
            if key in IGNORED or str(key).rpartition("/")[2] in MEASURED:
                continue
            if (key in one) != (key in other):
                yield f"{where}/{key}: in one only"
            else:
                yield from _unequal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} entries"
        for i, pair in enumerate(zip(one, other, strict=False)):
            yield from _unequal(*pair, f"{where}/{i}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape or _bits(one) != _bits(other):
            yield where
    elif type(one) is not type(other) or _plain(one) != _plain(other):
        yield f"{where}: {one!r} and {other!r}"


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _plain(value: Any) -> Any:
    """Return a value for comparison: without the folder of a path, and NaN equal to NaN."""
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return "nan" if value != value else value
