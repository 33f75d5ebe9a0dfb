"""Runs as `cim-pretrain` leaves them, made up."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cim_lightning.report import failures


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run of a method into a job's folder, with what it was asked and what it measured.

    Also, if so asked: settings, the text of its metrics.csv, and panels after so many steps, each of a gray
    of its own; and all as it lies there before the run is finished, with what was known when it began, or
    why it failed.
    """

    def write(
        job: str,
        overrides: list[str],
        evaluation: dict[str, float] | None = None,
        finished: bool = True,
        settings: dict[str, Any] | None = None,
        logged: str | None = None,
        panels: Sequence[int] = (),
        sweep: str | None = None,
        begun: dict[str, Any] | None = None,
        failed: str | None = None,
        flags: Sequence[str] = (),
        swept: Sequence[str] = (),
        **numbers: Any,
    ) -> Path:
        place = tmp_path / job
        place.mkdir(parents=True)
        asked = dict(one.split("=") for one in overrides)
        launch = {
            "door": "cim-pretrain",
            "overrides": overrides,
            "choices": {"method": asked.get("method", "cim"), "backbone": "vit"},
            "cwd": "/home/me",
            "flags": list(flags),
            "sweep": sweep is not None,
            "swept": list(swept),
        }
        (place / "launch.json").write_text(json.dumps(launch))
        if sweep is not None:
            typed = {"hydra": ["hydra/launcher=joblib", "hydra.mode=MULTIRUN"], "task": [sweep]}
            (place.parent / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": typed}}))
        configured = {"seed": int(asked.get("seed", 0))} | (settings or {})
        (place / "config.yaml").write_text(yaml.safe_dump(configured))
        if logged is not None:
            (place / "metrics.csv").write_text(logged)
        for step in panels:
            (place / "panels").mkdir(exist_ok=True)
            gray = Image.new("RGBA", (800, 600), (step % 256,) * 3)
            gray.save(place / "panels" / f"step-{step:08d}.png")
        if begun is not None:
            (place / "begun.json").write_text(json.dumps(begun))
        if failed is not None:
            failures.write(place, overrides, swept, failed, f"Traceback of {job}")
        if not finished:
            return place
        measured = {"images_seen": 1000, "train_images": 500, "images_per_s": 50.0, "seconds": 20.0}
        measured |= {"forward_flops_per_image": 1e9, "backward_flops_per_image": 2e9, "steps": 10}
        measured |= {"peak_memory_bytes": 2e9, "device": "NVIDIA H100", "initial/knn": 0.25}
        (place / "metrics.json").write_text(json.dumps(measured | numbers))
        if evaluation is not None:
            (place / "evaluation").mkdir()
            (place / "evaluation" / "metrics.json").write_text(json.dumps(evaluation))
        return place

    return write
