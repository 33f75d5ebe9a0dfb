"""Rows of earlier parts of a wandb run. A resumed run logs those that are lost, and no row twice.

wandb writes its files some seconds late. If a run is killed, the last rows are missing, while a checkpoint
may be newer than they are.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cim_lightning.loggers.csv import STEP

Rows = dict[int, set[str]]  # names of the values by step


def offline_parts(folder: Path, run_id: str) -> list[Path]:
    """Return the files of a run that wandb wrote offline, the newest first.

    Args:
        folder: with the folder `wandb`.
        run_id: id of the run.
    """
    found = folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    return sorted(found, key=lambda path: path.parent.name, reverse=True)


def logged_rows(parts: list[Path]) -> Rows:
    """Return the rows in the first file that has any; {} if none has.

    Older files have no later rows, because a resumed run logs no row twice.
    """
    return next((rows for path in parts if (rows := _rows(path))), {})


def _rows(path: Path) -> Rows:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    offline = os.environ | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    result = subprocess.run(command, capture_output=True, text=True, env=offline)
    rows: Rows = {}
    for line in result.stdout.splitlines():  # also of a file that ends too early
        if '"type":"history"' in line:
            history = json.loads(line)["history"]
            rows.setdefault(int(history["step"].get("num", 0)), set()).update(history["item"])
    return rows


def lost_rows(path: Path, after: int, before: int) -> Mapping[int, dict[str, Any]]:
    """Return the rows of a `metrics.csv` between two steps, without both.

    Args:
        path: of the file; it may not exist.
        after, before: steps.
    """
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = {int(row[STEP]): row for row in csv.DictReader(file)}
    return {
        step: {name: _number(text) for name, text in row.items() if text and name != STEP}
        for step, row in sorted(rows.items())
        if after < step < before
    }


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
