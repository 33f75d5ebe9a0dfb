"""The debug runs under conf/debug end, are short, and leave no checkpoints and no logs of metrics."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from cim_lightning.callbacks.overfit import OverfitBatches
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.errors import ConfigError

MODES = ("one_batch", "overfit", "profile")
WITHOUT_OUTPUT = ("checkpoints", "panels", "metrics.csv", "wandb", "evaluation")


def run(run_pretrain: Any, tiny: list[str], folder: Path, mode: str, *overrides: str) -> dict[str, Any]:
    """Return the numbers of a debug run that starts from a complete configuration with all outputs on."""
    ignored = ("trainer.max_epochs", "trainer.log_every_n_steps", "logger", "callbacks", "optim.base_lr")
    kept = [override for override in tiny if not override.startswith(ignored)]
    run_pretrain(f"debug={mode}", *kept, f"output_dir={folder}", *overrides)
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("mode", MODES)
def test_a_debug_run_leaves_no_checkpoints_and_no_logs(mode, run_pretrain, tiny, tmp_path):
    short = () if mode == "one_batch" else ("trainer.max_steps=2", "trainer.max_epochs=1")
    numbers = run(run_pretrain, tiny, tmp_path / "run", mode, *short)
    assert numbers["steps"] == (1 if mode == "one_batch" else 2)
    for name in WITHOUT_OUTPUT:
        assert not (tmp_path / "run" / name).exists(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]  # and nothing beside the run


def test_one_batch_trains_and_validates_one_batch_each(run_pretrain, tiny, tmp_path):
    numbers = run(run_pretrain, tiny, tmp_path / "run", "one_batch")
    assert (numbers["steps"], numbers["images_seen"], numbers["epochs"]) == (1, 8, 1)
    assert {"train/loss", "val/loss"} <= numbers.keys()


def test_overfit_lowers_the_loss_of_the_images_that_it_trains_on(run_pretrain, tiny, tmp_path):
    numbers = run(
        run_pretrain, tiny, tmp_path / "run", "overfit", "trainer.max_epochs=20", "optim.base_lr=0.05"
    )
    assert (numbers["steps"], numbers["train_images"]) == (40, 16)  # two batches of 8 in every epoch
    assert numbers["val/loss"] < 0.9 * numbers["initial/loss"]


def test_overfit_needs_a_batch():
    with pytest.raises(ConfigError, match="num_batches=0: must be at least 1; try num_batches=1"):
        OverfitBatches(num_batches=0)


def test_profile_writes_a_table_of_times(run_pretrain, tiny, tmp_path):
    run(run_pretrain, tiny, tmp_path / "run", "profile", "trainer.max_steps=2")
    assert "run_training_batch" in (tmp_path / "run" / "fit-profile.txt").read_text()


@pytest.mark.parametrize("experiment", ["demo", "cifar10_ablation"])
def test_a_debug_run_overrides_the_length_and_the_outputs_of_a_recipe(experiment):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", ["debug=one_batch", f"experiment={experiment}", "output_dir=here"])
    assert (cfg.budget, cfg.evaluation, cfg.logger) == (None, None, None)
    assert (cfg.trainer.limit_train_batches, cfg.trainer.max_epochs, cfg.data.num_workers) == (1, 1, 0)
    assert cfg.data.batch_size == 16  # the recipe's
