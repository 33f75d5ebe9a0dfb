"""Sweeps and recipes that cannot run with this command or on this machine."""

import json

import pytest
from omegaconf import OmegaConf

from cim_lightning.cli import preflight
from cim_lightning.cli.preflight import (
    check_launcher,
    check_processes,
    num_processes,
)
from cim_lightning.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["hydra/sweeper=optuna", "trainer=ddp"], ["trainer.strategy=ddp: ", "optuna", "trainer.devices=1"]),
        (["hydra/sweeper=optuna", "trainer=cpu", "trainer.devices=2"], ["trainer.devices=2: ", "optuna"]),
        (
            ["hydra/launcher=joblib", "trainer=ddp"],
            ["trainer.strategy=ddp: ", "joblib", "hydra/launcher=basic"],
        ),
        (["hydra/launcher=submitit_local", "trainer=ddp"], ["submitit_local", "hydra/launcher=basic"]),
        (["hydra/launcher=gpus", "trainer=ddp"], ["trainer.strategy=ddp: ", "ray", "hydra/launcher=basic"]),
    ],
)
def test_a_sweep_with_several_processes_per_run_gets_one_line(
    arguments, parts, run_pretrain, tiny, tmp_path, capsys
):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(
            "-m",
            *[override for override in tiny if override != "trainer=cpu"],
            *arguments,
            "seed=0,1",
            "output_dir=sweep",
        )
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cim-pretrain: ")
    for part in parts:
        assert part in line
    assert not (tmp_path / "sweep").exists()


@pytest.mark.filterwarnings("ignore:The ``declarative_base")  # of optuna 2.10
def test_a_sweep_over_devices_is_refused_in_every_job(run_pretrain, tiny, tmp_path, capsys):
    """The swept values are not known earlier."""
    with pytest.raises(SystemExit) as ended:
        run_pretrain(
            "-m",
            *tiny,
            "hydra/sweeper=optuna",
            "hydra.sweeper.n_trials=2",
            "hydra.sweeper.n_jobs=1",
            "hydra.sweeper.max_failure_rate=1.0",
            "trainer.devices=choice(2,3)",
            "output_dir=sweep",
        )
    assert ended.value.code == 2
    assert "no trial finished" in capsys.readouterr().err.splitlines()[-1]
    for job in ("0", "1"):
        reason = json.loads((tmp_path / "sweep" / job / "failure.json").read_text())["reason"]
        assert reason.startswith("trainer.devices=")
        assert "optuna" in reason
        assert not (tmp_path / "sweep" / job / "config.yaml").exists()


RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@pytest.mark.parametrize(
    ("sweeper", "launcher", "trainer", "refused"),
    [
        (OPTUNA, BASIC, {"strategy": "ddp", "devices": 8}, True),
        (OPTUNA, BASIC, {"strategy": "fsdp", "devices": "auto"}, True),
        (OPTUNA, BASIC, {"strategy": "ddp_find_unused_parameters_true", "devices": [0, 1]}, True),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": 2}, True),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": [0, 1]}, True),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": "auto", "num_nodes": 2}, True),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": "auto", "accelerator": "cpu"}, False),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": 1}, False),
        (OPTUNA, BASIC, {"strategy": "ddp", "devices": 1}, False),
        (OPTUNA, BASIC, {"strategy": "auto", "devices": [3]}, False),
        (OPTUNA, BASIC, {"strategy": "ddp_spawn", "devices": 2}, False),
        (BASIC, BASIC, {"strategy": "ddp", "devices": 8}, False),
        (BASIC, SLURM, {"strategy": "ddp", "devices": 8}, False),
    ],
)
def test_only_several_processes_with_a_conflicting_sweeper_or_launcher_are_refused(
    sweeper, launcher, trainer, refused
):
    chosen = OmegaConf.create({"sweeper": {"_target_": sweeper}, "launcher": {"_target_": launcher}})
    if refused:
        with pytest.raises(ConfigError, match=r"trainer\.devices=1"):
            check_processes(chosen, OmegaConf.create(trainer))
    else:
        check_processes(chosen, OmegaConf.create(trainer))


@pytest.mark.parametrize(
    ("ray", "accelerator", "gpus", "message"),
    [
        ({"remote": {}}, "auto", 2, "hydra/launcher=ray: .*; try hydra/launcher=gpus"),
        ({"remote": None}, "gpu", 1, "hydra/launcher=ray: .*; try hydra/launcher=gpus"),
        (
            {"remote": {"num_gpus": 1}},
            "auto",
            0,
            r"hydra\.launcher\.ray\.remote\.num_gpus=1: this machine has 0; ",
        ),
        ({"remote": {"num_gpus": 0.5}}, "auto", 2, None),  # two jobs per GPU
        ({"remote": {"num_gpus": 0}}, "auto", 0, None),
        ({"remote": {"num_gpus": 1}, "init": {"num_gpus": 4}}, "auto", 0, None),
        ({"remote": {"num_gpus": 8}, "init": {"address": "auto"}}, "auto", 0, None),  # a cluster
        ({"remote": {}}, "cpu", 2, None),
        ({"remote": {}}, "auto", 0, None),
    ],
)
def test_ray_needs_the_gpus_of_this_machine(ray, accelerator, gpus, message, monkeypatch):
    monkeypatch.setattr(preflight, "_num_gpus", lambda: gpus)
    trainer = OmegaConf.create({"accelerator": accelerator})
    chosen = OmegaConf.create({"launcher": {"_target_": RAY, "ray": ray}})
    if message:
        with pytest.raises(ConfigError, match=f"^{message}"):
            check_launcher(chosen, trainer)
    else:
        check_launcher(chosen, trainer)


@pytest.mark.parametrize("installed", [True, False])
def test_slurm_needs_srun(installed, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda name: "/usr/bin/srun" if installed else None)
    chosen = OmegaConf.create({"launcher": {"_target_": SLURM}})
    if installed:
        check_launcher(chosen, None)
    else:
        with pytest.raises(ConfigError, match=r"^hydra/launcher=slurm: this machine has no srun"):
            check_launcher(chosen, None)
    check_launcher(OmegaConf.create({"launcher": {"_target_": BASIC}}), None)


def test_a_recipe_that_is_a_sweep_does_not_run_without_m(run_pretrain, tiny, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, "experiment=ablation/rotation", "output_dir=run")
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "cim-pretrain: experiment=ablation/rotation: is a sweep over cropping.rotation, seed; "
        "try cim-pretrain -m experiment=ablation/rotation\n"
    )


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 4),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": -1, "accelerator": "gpu"}, 4),
        ({"devices": 2}, 2),
        ({"devices": "2"}, 2),
        ({"devices": [3]}, 1),
        ({"devices": "0,2,3"}, 3),
        ({"devices": "1,"}, 1),
        ({"devices": 2, "num_nodes": 3}, 6),
        ({"devices": 2, "accelerator": "cpu", "strategy": "ddp"}, 2),
    ],
)
def test_processes_of_a_run(settings, count, monkeypatch):
    monkeypatch.setattr(preflight, "_num_gpus", lambda: 4)
    assert num_processes(settings) == count
