"""The Trainers of an evaluation: their settings, and two processes that share an evaluation."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cim_lightning.cli import evaluation_trainer
from cim_lightning.config.compose import register_resolvers
from cim_lightning.errors import ConfigError

SETTINGS = [
    "checkpoint=untrained",
    "backbone=vit_micro_patch4",
    "backbone.kwargs.depth=2",
    "backbone.kwargs.embed_dim=24",
    "data=folder",
    "data.view_size=16",
    "data.batch_size=3",
    "data.num_workers=0",
    "evaluation=[knn,finetune]",
    "evaluation.knn.ks=[3]",
    "evaluation.finetune.classifier.epochs=1",
    "evaluation.finetune.classifier.batch_size=8",
    "evaluation.finetune.classifier.drop_path=0",
    "evaluation.finetune.classifier.mixing={erasing:0,mixup:0,cutmix:0}",
]


def test_two_processes_share_an_evaluation(run_evaluate: Any, photos: Path, tmp_path: Path) -> None:
    arguments = [*SETTINGS, f"data.root={photos}"]
    alone = run_evaluate("one", *arguments, "trainer=cpu")
    command = Path(sys.executable).with_name("cim-evaluate")
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "output_dir=two"]
    ended = subprocess.run([command, *arguments, *devices], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("| top-1 accuracy |") == 1  # the first process prints the table
    together = json.loads((tmp_path / "two" / "metrics.json").read_text())
    numbers = [name for name in alone if "/" in name]
    assert {"knn/mean_k3", "finetune/top1"} <= {*numbers}
    for name in numbers:
        assert together[name] == pytest.approx(alone[name], abs=1e-4), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epochs": 3}, "trainer.max_epochs=3: each evaluator sets its own length; try evaluation."),
        ({"max_epochs": None, "max_steps": 9}, "trainer.max_steps=9: each evaluator"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches=0: must be at least 1"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        evaluation_trainer.check(settings)
    assert str(raised.value).startswith(message)
    evaluation_trainer.check({"max_epochs": None, "max_steps": -1})


def test_an_evaluation_after_pretraining_shares_the_devices_only() -> None:
    register_resolvers()
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "32-true"}
    own = {"max_epochs": 300, "gradient_clip_val": 1.0, "limit_train_batches": 0.1}
    cfg = evaluation_trainer.after_pretraining({**trainer, **own}, Path("run"))
    found = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(found, dict)
    assert {name: found[name] for name in trainer} == trainer
    assert (found["max_epochs"], found["gradient_clip_val"], found["limit_train_batches"]) == (
        None,
        None,
        1.0,
    )
    assert (cfg.checkpoint, cfg.paths.run) == ("run", "run/evaluation")


def test_every_training_has_its_own_files(tmp_path: Path) -> None:
    csv = {"_target_": "cim_lightning.loggers.csv.ResumableCSVLogger", "path": "${paths.run}/metrics.csv"}
    cfg = OmegaConf.create({"paths": {"run": "elsewhere"}, "logger": {"csv": csv}})
    (logger,) = evaluation_trainer._loggers(cfg, tmp_path)
    assert logger.path == tmp_path / "metrics.csv"
    assert cfg.paths.run == "elsewhere"
