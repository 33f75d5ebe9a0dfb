"""Run trials one after another: `python experiments/search/run.py TRIALS DATA RESULTS [FOLDER]`.

TRIALS is a YAML file: `common`, the overrides that all trials share, and `trials`, those of each trial by
name. DATA is a folder of training images. RESULTS is a file with one JSON object per line, for every finished
trial and for every failed one. Trials that it has are skipped. TRIALS is read again after each trial, so that
trials can be added while a search runs. With FOLDER, the runs stay there, with their panels and checkpoints.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml


def finished(results: Path) -> set[str]:
    """Return the names of the trials in a file of results."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {json.loads(line)["name"] for line in lines}


def run(name: str, overrides: list[str], data: str, runs: Path | None = None) -> dict[str, Any]:
    """Train and evaluate one trial. Return its settings, its numbers and its error.

    Args:
        runs: folder in which the run stays, with the trial's name; None: it is deleted.
    """
    folder = Path(tempfile.mkdtemp(prefix="search-")) if runs is None else runs / name
    command = ["cim-pretrain", *overrides, f"data.root={data}", f"output_dir={folder}", "resume=never"]
    command[0] = str(Path(sys.executable).parent / command[0])
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    result: dict[str, Any] = {
        "name": name,
        "overrides": overrides,
        "seconds": round(time.monotonic() - start),
    }
    files = [folder / "metrics.json", folder / "evaluation" / "metrics.json"]
    numbers: dict[str, Any] = {}
    for file in files:
        numbers |= json.loads(file.read_text()) if file.exists() else {}
    result["numbers"] = {key: value for key, value in numbers.items() if isinstance(value, float | int)}
    if runs is None:
        shutil.rmtree(folder)
    return result | ({"error": done.stderr.strip().splitlines()[-1:]} if done.returncode else {})


def main(trials: Path, data: str, results: Path, runs: Path | None = None) -> None:
    while True:
        plan = yaml.safe_load(trials.read_text())
        waiting = [name for name in plan["trials"] if name not in finished(results)]
        if not waiting:
            return
        result = run(waiting[0], [*plan["common"], *plan["trials"][waiting[0]]], data, runs)
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(result["name"], result.get("error") or "", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:]))
