"""Fixture that runs `cim-evaluate`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cim_lightning.cli.main import evaluate


@pytest.fixture
def run_evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run `cim-evaluate` in this process, into a folder, and return metrics.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(folder: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["cim-evaluate", *arguments, f"output_dir={folder}"])
        evaluate()
        return json.loads(Path(folder, "metrics.json").read_text())

    return run
