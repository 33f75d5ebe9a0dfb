"""Runs as `cim-pretrain` leaves them, made up."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished run of a method into a job's folder, with what it was asked and what it measured."""

    def write(job: str, overrides: list[str], evaluation: dict[str, float] | None = None, **numbers) -> Path:
        place = tmp_path / job
        (place / ".hydra").mkdir(parents=True)
        asked = dict(one.split("=") for one in overrides)
        (place / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        choices = {"method": asked.get("method", "cim"), "backbone": "vit"}
        hydra = {"hydra": {"runtime": {"choices": choices}}}
        (place / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
        (place / "config.yaml").write_text(yaml.safe_dump({"seed": int(asked.get("seed", 0))}))
        measured = {"images_seen": 1000, "train_images": 500, "images_per_s": 50.0, "seconds": 20.0}
        measured |= {"forward_flops_per_image": 1e9, "backward_flops_per_image": 2e9}
        measured |= {"peak_memory_bytes": 2e9, "initial/knn": 0.25}
        (place / "metrics.json").write_text(json.dumps(measured | numbers))
        if evaluation is not None:
            (place / "evaluation").mkdir()
            (place / "evaluation" / "metrics.json").write_text(json.dumps(evaluation))
        return place

    return write
