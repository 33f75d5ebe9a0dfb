"""Overrides that distinguish the jobs of a sweep. tests/loggers/test_wandb.py tests the names."""

from pathlib import Path

import pytest
import yaml

from cim_lightning.config.run_names import job_overrides


@pytest.mark.parametrize(
    ("typed", "job", "swept"),
    [
        (["seed=0,1", "trainer=cpu"], ["seed=1", "trainer=cpu"], ["seed=1"]),
        (["budget.petaflop=1.0e-6", "seed=0"], ["a=1", "budget.petaflop=1e-06", "seed=0"], ["a=1"]),
        (["++x.y=range(1,3)", "+z=[1,2]"], ["++x.y=2", "+z=[1,2]"], ["++x.y=2"]),
        (["backbone=a,b", "classifier@part.classifier=c"], ["backbone=b", "classifier@part.classifier=c"], 1),
        (["x=interval(0,1)", "cropping.scale=[0.1,0.2]"], ["x=0.25", "cropping.scale=[0.1,0.2]"], 1),
    ],
)
def test_the_overrides_of_a_job_are_the_swept_ones(typed, job, swept, tmp_path: Path):
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": typed}}}))
    assert job_overrides(job, tmp_path) == (job[:swept] if isinstance(swept, int) else swept)


def test_without_the_command_of_the_sweep_all_overrides_count(tmp_path):
    assert job_overrides(["seed=1"], tmp_path) == ["seed=1"]
