"""What launches a sweep's jobs: shipped configurations, the plugins that they extend, and wandb's agents."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from cim_lightning.config import validate
from cim_lightning.config.compose import CONF, register_resolvers

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["data=folder", "data.root=/images", "paths.run=run", "output_dir=here"]
        return compose("pretrain", [*given, *overrides], return_hydra_config=True)


def test_slurm_is_submitits_with_time_to_train_and_to_be_queued_again():
    mine = composed("hydra/launcher=slurm").hydra.launcher
    theirs = composed("hydra/launcher=submitit_slurm").hydra.launcher
    assert mine._target_ == theirs._target_
    assert mine.keys() == theirs.keys()
    assert {key: mine[key] for key in mine if mine[key] != theirs[key]} == {
        "timeout_min": 24 * 60,
        "gpus_per_node": 1,
        "cpus_per_task": 8,
        "max_num_timeout": 100,
        "array_parallelism": 64,
    }


def test_gpus_is_rays_with_one_job_a_gpu():
    mine = composed("hydra/launcher=gpus").hydra.launcher
    theirs = composed("hydra/launcher=ray").hydra.launcher
    assert mine._target_ == theirs._target_
    assert mine.ray.remote == {"num_gpus": 1, "num_cpus": 1}
    assert mine.ray.init == {**theirs.ray.init, "include_dashboard": False}


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance()  # registers what is installed
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "ray.yaml")


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("launcher", ["gpus", "ray"])
def test_a_plugin_that_is_not_installed_is_told_in_one_line(launcher, run_pretrain, tiny, capsys):
    with pytest.raises(SystemExit) as ended:
        run_pretrain("-m", *tiny, f"hydra/launcher={launcher}", "seed=0,1")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "cim-pretrain: hydra/launcher=ray: is not installed; try pip install 'cim-lightning[ray]'"
    )


def test_every_command_that_a_wandb_agent_gets_composes(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    sweep: Any = yaml.safe_load((EXPERIMENTS / "wandb_sweep.yaml").read_text())
    assert (sweep["program"], sweep["method"]) == ("cim-pretrain", "grid")
    assert sweep["command"][:2] == ["${env}", "${program}"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    fixed = sweep["command"][2:-1]
    choices = [[f"{key}={v}" for v in one["values"]] for key, one in sweep["parameters"].items()]
    assert all(len(some) > 1 for some in choices)
    for i, drawn in enumerate(itertools.product(*choices)):
        if i % 5 and i % 7:  # every value of every setting is in one
            continue
        cfg = composed(*fixed, *drawn)
        assert cfg.output_dir == "outputs/abc"
        assert "wandb" in cfg.logger  # which an agent hears from
        assert cfg.callbacks.knn is not None
        del cfg.hydra
        validate.check(cfg, "pretrain")
    assert sweep["metric"] == {"name": "val/knn", "goal": "maximize"}
