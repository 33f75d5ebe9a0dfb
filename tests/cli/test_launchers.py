"""Launchers of sweeps: their configurations, missing plugins, and the commands of wandb agents."""

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


def test_slurm_extends_submitit_with_time_to_train_and_to_requeue():
    ours = composed("hydra/launcher=slurm").hydra.launcher
    plugin = composed("hydra/launcher=submitit_slurm").hydra.launcher
    assert ours._target_ == plugin._target_
    assert ours.keys() == plugin.keys()
    assert {key: ours[key] for key in ours if ours[key] != plugin[key]} == {
        "timeout_min": 24 * 60,
        "gpus_per_node": 1,
        "cpus_per_task": 8,
        "max_num_timeout": 100,
        "array_parallelism": 64,
    }


def test_gpus_extends_ray_with_one_job_per_gpu():
    ours = composed("hydra/launcher=gpus").hydra.launcher
    plugin = composed("hydra/launcher=ray").hydra.launcher
    assert ours._target_ == plugin._target_
    assert ours.ray.remote == {"num_gpus": 1, "num_cpus": 1}
    assert ours.ray.init == {**plugin.ray.init, "include_dashboard": False}


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance()  # registers the installed plugins
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "ray.yaml")


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("launcher", ["gpus", "ray"])
def test_a_missing_plugin_gets_one_line(launcher, run_pretrain, tiny, capsys):
    with pytest.raises(SystemExit) as ended:
        run_pretrain("-m", *tiny, f"hydra/launcher={launcher}", "seed=0,1")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "cim-pretrain: hydra/launcher=ray: is not installed; try pip install 'cim-lightning[ray]'"
    )


def test_every_command_of_a_wandb_agent_composes(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    sweep: Any = yaml.safe_load((EXPERIMENTS / "wandb_sweep.yaml").read_text())
    assert (sweep["program"], sweep["method"]) == ("cim-pretrain", "grid")
    assert sweep["command"][:2] == ["${env}", "${program}"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    fixed = sweep["command"][2:-1]
    choices = [[f"{key}={v}" for v in p["values"]] for key, p in sweep["parameters"].items()]
    assert all(len(values) > 1 for values in choices)
    for i, drawn in enumerate(itertools.product(*choices)):
        if i % 5 and i % 7:  # the rest still has every value of every setting
            continue
        cfg = composed(*fixed, *drawn)
        assert cfg.output_dir == "outputs/abc"
        assert "wandb" in cfg.logger  # which reports to the agent
        assert cfg.callbacks.knn is not None
        del cfg.hydra
        validate.check(cfg, "pretrain")
    assert sweep["metric"] == {"name": "val/knn", "goal": "maximize"}
