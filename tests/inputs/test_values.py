"""Values that users give: numbers for text, references, and the flags of Lightning's trainer."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cim_lightning.config import messages, validate
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.result_settings import may_change_when_finished
from cim_lightning.config.trainer_settings import check_trainer
from cim_lightning.errors import ConfigError


def checked(*overrides: str) -> DictConfig:
    """Return the valid configuration of a command line."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "pretrain", ["paths.run=run", "data=folder", "output_dir=run", "logger=wandb", *overrides]
        )
    validate.check(cfg, "pretrain", overrides)
    return cfg


@pytest.fixture
def without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("without_wandb")
@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        pytest.param(
            "data.root=2024",
            "data.root",
            "2024",
            marks=pytest.mark.user_input("path", "`data.root=2024`", "the folder `2024`"),
        ),
        pytest.param(
            "data.root=1e5",
            "data.root",
            "1e5",
            marks=pytest.mark.user_input(
                "path", "`data.root=1e5` or `data.root=1_000`", "the folder as typed"
            ),
        ),
        ("data.root=1_000", "data.root", "1_000"),
        ("data.root=true", "data.root", "true"),
        ("data.root=[2023,2024]", "data.root", ["2023", "2024"]),
        pytest.param(
            "logger.wandb.name=2024",
            "logger.wandb.name",
            "2024",
            marks=pytest.mark.user_input("value", "a number as name, project, group or id of wandb", "text"),
        ),
        ("logger.wandb.project=123", "logger.wandb.project", "123"),
        ("logger.wandb.group=1e5", "logger.wandb.group", "1e5"),
        ("logger.wandb.id=7", "logger.wandb.id", "7"),
        pytest.param(
            "logger.wandb.tags=[1,a]",
            "logger.wandb.tags",
            ["1", "a"],
            marks=pytest.mark.user_input("value", "`logger.wandb.tags=[1,a]`", "text"),
        ),
        ("logger.wandb.name=null", "logger.wandb.name", None),
        ("data.batch_size=8", "data.batch_size", 8),
    ],
)
def test_a_number_is_text_where_the_setting_is_text(override, key, value):
    root = () if key == "data.root" else ("data.root=x",)
    found = OmegaConf.select(checked(override, *root), key)
    assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value
    assert isinstance(value, list) or type(found) is type(value)


@pytest.mark.usefixtures("without_wandb")
@pytest.mark.user_input("value", "`WANDB_MODE=` (empty)", "as if it were not set")
def test_an_empty_wandb_mode_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # without a login
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "")
    assert checked("data.root=x").logger.wandb.mode == "offline"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["output_dir=${nowhere}/a"],
            "cim-pretrain: output_dir=${nowhere}/a: Interpolation key 'nowhere' not found",
            marks=pytest.mark.user_input(
                "value", "`output_dir='${nowhere}/a'`", "one line with the override"
            ),
        ),
        pytest.param(
            ["data.root=${oc.env:NOT_SET}"],
            "cim-pretrain: data.root=${oc.env:NOT_SET}: \"Environment variable 'NOT_SET' not found\"",
            marks=pytest.mark.user_input(
                "value", "`data.root='${oc.env:NOT_SET}'`", "one line with the override"
            ),
        ),
        pytest.param(
            ["trainer.max_steps=[1"],
            "cim-pretrain: trainer.max_steps=[1: cannot be parsed (no viable alternative at input '[1'); an "
            "override is key=value; to set text, quote it: 'trainer.max_steps=\"[1\"'",
            marks=pytest.mark.user_input(
                "value", "a value that Hydra's grammar rejects", "one line with the quoting that works"
            ),
        ),
        pytest.param(
            ["data.root=/my", "photos", "(1)", "seed=1"],
            "cim-pretrain: photos: cannot be parsed (missing EQUAL at '<EOF>'); an override is key=value; "
            "quote a value with spaces: 'data.root=/my photos (1)'",
            marks=pytest.mark.user_input(
                "path", "`data.root=/my photos (1)` without quotes", "one line with the quotes that work"
            ),
        ),
        (
            ["data.root=[a (1), ü]"],
            "cim-pretrain: data.root=[a (1), ü]: cannot be parsed (it has special characters); an override "
            'is key=value; to set text, quote each item: \'data.root=["a (1)","ü"]\'',
        ),
    ],
)
def test_a_value_without_a_meaning_gets_one_line(run_pretrain, tiny, capfd, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        run_pretrain(*tiny, *arguments)
    assert ended.value.code == 2
    assert capfd.readouterr().err == f"{expected}\n"


@pytest.mark.user_input(
    "value",
    "`trainer.fast_dev_run=true`, an argument of Lightning's trainer, without the `+`",
    "one line: try +trainer.fast_dev_run=true",
)
def test_an_argument_of_the_trainer_without_a_plus_gets_one_line():
    override = "trainer.fast_dev_run=true"
    with pytest.raises(HydraException) as caught:
        checked(override)
    expected = f"{override}: no such setting or group; to add an argument, try +{override}"
    assert messages.explain(caught.value, "pretrain", None, [override]) == expected


@pytest.mark.user_input(
    "value",
    "`+trainer.overfit_batches=1`",
    "one line: try debug=overfit",
    source="https://github.com/Lightning-AI/pytorch-lightning/issues/15899",
)
@pytest.mark.parametrize(("batches", "suggested"), [(1, 1), (3, 3), (0.01, 1)])
def test_overfitting_by_lightning_is_refused(batches, suggested):
    with pytest.raises(ConfigError) as raised:
        check_trainer({"max_epochs": 1, "overfit_batches": batches}, has_length=False)
    assert str(raised.value) == (
        f"trainer.overfit_batches={batches}: Lightning would not train on the same images in every epoch; "
        f"try debug=overfit callbacks.overfit.num_batches={suggested}"
    )
    check_trainer({"max_epochs": 1, "overfit_batches": 0.0}, has_length=False)


@pytest.mark.user_input("value", "`+trainer.fast_dev_run=true`", "one batch for training and for validation")
def test_a_fast_run_of_one_batch_works(run_pretrain: Callable[..., None], tiny: list[str], tmp_path: Path):
    run_pretrain(*tiny, "output_dir=run", "+trainer.fast_dev_run=true")
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["steps"] == 1
    assert {"initial/loss", "val/loss"} <= numbers.keys()


def test_a_run_of_one_batch_is_not_the_finished_run():
    assert not may_change_when_finished("trainer.fast_dev_run")
    assert may_change_when_finished("trainer.limit_val_batches")


@pytest.mark.user_input(
    "value",
    "batch normalization with `data.batch_size=1`",
    "one line: try data.batch_size=2",
    source="https://github.com/pytorch/pytorch/issues/4534",
)
def test_batch_normalization_of_one_image_gets_one_line():
    with pytest.raises(ValueError, match="Expected more than 1 value") as raised:
        nn.BatchNorm1d(4)(torch.ones(1, 4))
    line = messages.explain(raised.value, "pretrain")
    assert line == "data.batch_size: batch normalization needs two or more images; try data.batch_size=2"


@pytest.mark.user_input(
    "value", "a ResNet with `data.batch_size=1`", "training works: a feature map has many cells"
)
@pytest.mark.user_input("value", "`trainer.limit_val_batches=0`", "training without validation")
def test_a_resnet_trains_with_batches_of_one_image(run_pretrain, tiny, tmp_path):
    small = [argument for argument in tiny if not argument.startswith("backbone")]
    size = ["data.view_size=64", "cropping.context_size=64", "cropping.exemplar_size=64"]
    resnet = ["backbone=resnet18", "backbone.name=resnet10t", "data.batch_size=1", *size]
    run_pretrain(*small, *resnet, "output_dir=run", "trainer.max_steps=1", "trainer.limit_val_batches=0")
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["images_seen"] == 1
    assert "val/loss" not in numbers
