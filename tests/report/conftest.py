"""Folders of runs, with the files that `cim-pretrain` writes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cim_lightning.report import failures


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a job, with its overrides and numbers.

    Optional: settings, the text of metrics.csv, panels (gray, by step), the setup that a run records when
    training starts, and the reason why the job failed.
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
        setup: dict[str, Any] | None = None,
        failed: str | None = None,
        config_dirs: Sequence[str] = (),
        swept: Sequence[str] = (),
        **numbers: Any,
    ) -> Path:
        folder = tmp_path / job
        folder.mkdir(parents=True)
        values = dict(override.split("=") for override in overrides)
        info = {
            "command": "cim-pretrain",
            "overrides": overrides,
            "choices": {"method": values.get("method", "cim"), "backbone": "vit"},
            "cwd": "/home/me",
            "config_dirs": list(config_dirs),
            "sweep": sweep is not None,
            "swept": list(swept),
        }
        (folder / "run.json").write_text(json.dumps(info | ({} if setup is None else {"setup": setup})))
        if sweep is not None:
            typed = {"hydra": ["hydra/launcher=joblib", "hydra.mode=MULTIRUN"], "task": [sweep]}
            (folder.parent / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": typed}}))
        configured = {"seed": int(values.get("seed", 0))} | (settings or {})
        (folder / "config.yaml").write_text(yaml.safe_dump(configured))
        if logged is not None:
            (folder / "metrics.csv").write_text(logged)
        for step in panels:
            (folder / "panels").mkdir(exist_ok=True)
            gray = Image.new("RGBA", (800, 600), (step % 256,) * 3)
            gray.save(folder / "panels" / f"step-{step:08d}.png")
        if failed is not None:
            failures.write(folder, overrides, swept, failed, f"Traceback of {job}")
        if not finished:
            return folder
        measured = {"images_seen": 1000, "train_images": 500, "images_per_s": 50.0, "seconds": 20.0}
        measured |= {"forward_flops_per_image": 1e9, "backward_flops_per_image": 2e9, "steps": 10}
        measured |= {"peak_memory_bytes": 2e9, "device": "NVIDIA H100", "initial/knn": 0.25}
        (folder / "metrics.json").write_text(json.dumps(measured | numbers))
        if evaluation is not None:
            (folder / "evaluation").mkdir()
            (folder / "evaluation" / "metrics.json").write_text(json.dumps(evaluation))
        return folder

    return write
