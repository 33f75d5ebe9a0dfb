"""What tells a job from the others of its sweep; tests/monitors/test_online.py has what wandb gets of it."""

from pathlib import Path

import pytest
import yaml

from cim_lightning.config.run_names import own


@pytest.mark.parametrize(
    ("typed", "job", "kept"),
    [
        (["seed=0,1", "trainer=cpu"], ["seed=1", "trainer=cpu"], ["seed=1"]),
        (["budget.petaflop=1.0e-6", "seed=0"], ["a=1", "budget.petaflop=1e-06", "seed=0"], ["a=1"]),
        (["++x.y=range(1,3)", "+z=[1,2]"], ["++x.y=2", "+z=[1,2]"], ["++x.y=2"]),
        (["backbone=a,b", "classifier@part.classifier=c"], ["backbone=b", "classifier@part.classifier=c"], 1),
        (["x=interval(0,1)", "cropping.scale=[0.1,0.2]"], ["x=0.25", "cropping.scale=[0.1,0.2]"], 1),
    ],
)
def test_a_jobs_own_overrides_are_those_that_were_swept(typed, job, kept, tmp_path: Path):
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": typed}}}))
    assert own(job, tmp_path) == (job[:kept] if isinstance(kept, int) else kept)


def test_where_nothing_says_what_was_typed_all_are_its_own(tmp_path):
    assert own(["seed=1"], tmp_path) == ["seed=1"]
