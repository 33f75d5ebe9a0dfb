"""Folders of runs, with the files that `cim-pretrain` writes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cim_lightning.cropping import correlation_metrics
from cim_lightning.methods.dino import DINO
from cim_lightning.metric_registry import COLUMN, Metric, find
from cim_lightning.report import failures

DECLARED = (  # by the evaluators knn and linear
    Metric("mean_k*", "k-NN", None, (COLUMN,), True, "k-NN, mean, k = *", 1, unit="%"),
    Metric("pooled_k*", "k-NN", None, (COLUMN,), True, "k-NN, pooled, k = *", 1, unit="%"),
    Metric("mean", "linear probe", None, (COLUMN,), True, "probe, mean", 1, unit="%"),
)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a job, with its overrides and numbers.

    Optional: settings, the text of metrics.csv, panels (gray, by step), the setup and the metrics that a run
    records when training starts, and the reason why the job failed.
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
        declared: Sequence[Metric] = (*correlation_metrics.METRICS, *DINO.metrics),
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
        info |= {"metrics": [metric.to_dict() for metric in declared]}
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
        measured |= {"peak_memory_bytes": 2e9, "device": "NVIDIA H100", "initial/knn": 25.0}
        (folder / "metrics.json").write_text(json.dumps(measured | numbers))
        if evaluation is not None:
            (folder / "evaluation").mkdir()
            metrics = {key: find(key.split("/")[1], DECLARED).to_dict() for key in evaluation}
            content = {"checkpoint": "x", **evaluation, "protocol": {}, "metrics": metrics}
            (folder / "evaluation" / "metrics.json").write_text(json.dumps(content))
        return folder

    return write
