"""Settings of evaluators that do not fit the backbone, the data or the devices are refused early."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.cli.evaluate import check_evaluators
from cim_lightning.cli.evaluation_trainer import after_pretraining, planned_factory
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.config.from_checkpoint import build
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation import estimate
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.suite import check_applicable

EVALUATORS = "knn,linear,attentive,robustness,finetune,segmentation"
SEGMENTATION = ("segmentation_data=synthetic", "segmentation_data.num_train=4", "segmentation_data.num_val=2")


@pytest.fixture(scope="module")
def cfg() -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        small = ("backbone=vit_micro_patch4", "backbone.kwargs.depth=2", "backbone.kwargs.embed_dim=32")
        data = (
            "data.view_size=32",
            "data.source.num_train=24",
            "data.source.num_val=4",
            "data.num_workers=0",
        )
        return compose(
            "pretrain",
            [
                *("paths.run=run", "output_dir=run", "logger=[]", "trainer=cpu", "cropping=resize"),
                *("method=random", *small, *data, "trainer.accumulate_grad_batches=2"),
                *(f"evaluation=[{EVALUATORS}]", *SEGMENTATION, "evaluation.segmentation.crops.size=64"),
                "evaluation.robustness.num_images=2",
            ],
        )


@pytest.fixture(scope="module")
def parts(cfg: DictConfig) -> tuple[Any, Any]:
    return build(cfg.backbone).eval(), build(cfg.data)


def check(cfg: DictConfig, parts: tuple[Any, Any], tmp_path: Any, name: str, **changes: Any) -> None:
    changed = OmegaConf.create(OmegaConf.to_container(cfg.evaluation, resolve=True))
    for path, value in changes.items():
        OmegaConf.update(changed, f"{name}.{path.replace('__', '.')}", value)
    factory = planned_factory(after_pretraining(OmegaConf.to_container(cfg.trainer, resolve=True), tmp_path))  # pyright: ignore
    context = EvalContext(parts[0], None, parts[1], torch.device("cpu"), tmp_path, 0, {}, trainer=factory)
    check_applicable({name: build(changed[name])}, context, [name])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        pytest.param(
            "linear",
            {"layers": 50},
            "layers=50: .* has 2 last layer",
            marks=pytest.mark.user_input(
                "value", "`evaluation.linear.layers=50` after a pre-training", "refused before the training"
            ),
        ),
        ("finetune", {"classifier__view__size": 33}, "size=33: must be whole patches of 4 pixels"),
        ("finetune", {"classifier__batch_size": 9}, "batch_size=9: must be 2 batches"),
        ("robustness", {"drop_patches": 7}, "robustness needs grids that divide images of 32 pixels"),
        ("attentive", {"batch_size": 1}, "batch_size=1: must have one image for each"),
        ("segmentation", {"batch_size": 3}, "batch_size=3: must be divisible into 2 batches"),
        ("segmentation", {"crops__size": 33}, "size=33: must be whole patches"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(name, changes, message, cfg, parts, tmp_path):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        check(cfg, parts, tmp_path, name, **changes)
    assert caught.value.group in ("", f"evaluation.{name}")


@pytest.mark.parametrize("name", EVALUATORS.split(","))
def test_the_defaults_fit_and_the_random_state_stays(name, cfg, parts, tmp_path):
    before = torch.get_rng_state()
    check(cfg, parts, tmp_path, name)
    assert torch.equal(torch.get_rng_state(), before)


def test_more_neighbors_than_images_are_reported(cfg, parts, tmp_path, caplog):
    check(cfg, parts, tmp_path, "knn", ks=[1, 30])
    assert "ks=30: there are only 24 labeled training images, and all of them vote" in caplog.text
    few = copy.copy(parts[1])
    few.label_share = 0.5
    voters = len(few.labeled_indices(None))
    assert 10 <= voters < 24  # one of each class at least
    caplog.clear()
    check(cfg, (parts[0], few), tmp_path, "knn", ks=[voters], num_train=24)
    assert not caplog.text
    check(cfg, (parts[0], few), tmp_path, "knn", ks=[24], num_train=24)
    assert f"ks=24: there are only {voters} labeled training images" in caplog.text


@pytest.mark.parametrize(
    ("path", "value", "parameter"),
    [
        ("finetune.classifier.optim.optimizer", {"_target_": "torch.optim.AdamW", "eps": -1}, "optimizer"),
        ("finetune.classifier.loss", {"_target_": "timm.loss.BinaryCrossEntropy", "smoothing": 3}, "loss"),
    ],
)
def test_arguments_of_torch_and_timm_are_checked_by_building(path, value, parameter, cfg):
    changed = OmegaConf.create(OmegaConf.to_container(cfg.evaluation, resolve=True))
    OmegaConf.update(changed, path, value | {"_partial_": True}, merge=False)
    with pytest.raises(Exception, match=rf"{parameter}: cannot be built"):
        build(changed.finetune)


def test_features_that_do_not_fit_into_memory_are_refused(cfg, parts, tmp_path, monkeypatch):
    plain = {"trainer": cfg.trainer, "evaluation": {"knn": cfg.evaluation.knn}}
    settings = OmegaConf.create(
        {name: OmegaConf.to_container(OmegaConf.create(group), resolve=True) for name, group in plain.items()}
    )
    method = SimpleNamespace(eval_backbone=parts[0])
    needed = (24 + 4) * (2 * 32 * 2 + 8)  # two vectors in fp16 and a label for each image
    monkeypatch.setattr(estimate, "free_memory", lambda: needed)
    check_evaluators(settings, method, parts[1], tmp_path, [])
    monkeypatch.setattr(estimate, "free_memory", lambda: needed - 1)
    with pytest.raises(
        ConfigError, match=r"^the features of all images need .* of memory, and .* are free; try"
    ):
        check_evaluators(settings, method, parts[1], tmp_path, [])
