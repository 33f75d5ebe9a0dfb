"""Recipes in conf/experiment: the values of the paper, and one training step."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF, register_resolvers

PUBLISHED = {  # the method and its published recipe, as facts
    "backbone.name": "vit_base_patch16_224",
    "backbone.positions": "sincos",
    "backbone.freeze_patch_embed": True,
    "backbone.init": "xavier",
    "data.view_size": 224,
    "data.view_scale": [0.5, 1.0],
    "cropping.num_exemplars": 6,
    "cropping.scale": [0.05, 0.48],
    "cropping.rotation": 45,
    "cropping.context_size": 160,
    "cropping.exemplar_size": 64,
    "cropping.flip": 0.5,
    "cropping.appearance.brightness": 0.4,
    "cropping.appearance.contrast": 0.4,
    "cropping.appearance.saturation": 0.2,
    "cropping.appearance.hue": 0.1,
    "cropping.appearance.jitter_prob": 0.8,
    "cropping.appearance.grayscale": 0.2,
    "cropping.appearance.blur": 0.5,
    "cropping.appearance.blur_sigma": [0.1, 2.0],
    "cropping.appearance.solarize": 0.2,
    "decoder.width": 512,
    "decoder.depth": 1,
    "decoder.num_heads": 16,
    "decoder.mlp_ratio": 4.0,
    "target.momentum": 0.99,
    "method.reduction": "sum",
    "method.online_input": "exemplars",
    "method.contrast": None,
    "optim.base_lr": 1.5e-4,
    "optim.weight_decay": 0.05,
    "optim.betas": [0.9, 0.95],
    "trainer.max_epochs": 300,
    "trainer.gradient_clip_val": 1.0,
}


def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", overrides=list(overrides))


def test_the_published_recipe_has_the_published_values() -> None:
    cfg = composed("experiment=cim_vitb16_in1k_300ep", "output_dir=here")
    for key, value in PUBLISHED.items():
        assert OmegaConf.select(cfg, key) == value, key
    assert cfg.data.batch_size * cfg.trainer.devices * cfg.trainer.accumulate_grad_batches == 4096
    assert cfg.optim.warmup == pytest.approx(40 / 300)
    assert list(cfg.cropping.ratio) == pytest.approx([1 / 3, 3])


def test_as_released_differs_only_in_precision_clipping_class_token_and_decoder_head() -> None:
    published = composed("experiment=cim_vitb16_in1k_300ep", "output_dir=here")
    released = composed("experiment=cim_vitb16_in1k_300ep_as_released", "output_dir=here")
    assert released.trainer.precision == "32-true"
    assert released.trainer.gradient_clip_val is None
    assert released.target.tied == ["cls_token"]
    released.trainer.precision, released.trainer.gradient_clip_val = "same", 1.0
    released.target.tied, published.trainer.precision = [], "same"
    assert released.decoder.head_std == 1.0
    released.decoder.head_std = None
    assert released == published


def test_the_published_fine_tuning_has_steps_of_1024_images_on_8_devices() -> None:
    register_resolvers()
    given = ["experiment=finetune_vitb16_in1k", "checkpoint=untrained", "data=folder", "data.root=here"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=[*given, "paths.run=here", "data.view_size=224"])
    classifier = cfg.evaluation.finetune.classifier
    assert (classifier.epochs, classifier.batch_size, classifier.finetune) == (100, 1024, True)
    assert (cfg.trainer.strategy, cfg.trainer.devices, cfg.trainer.gradient_clip_val) == ("ddp", 8, None)
    assert classifier.batch_size % (cfg.trainer.devices * cfg.trainer.accumulate_grad_batches) == 0
    assert cfg.protocol.crop_pct == 0.875  # resize to 256, crop 224


@pytest.mark.slow
def test_one_step_of_the_published_recipe_at_batch_2(
    run_pretrain: Callable[..., None], photos: Path, tmp_path: Path
) -> None:
    run_pretrain(
        "experiment=cim_vitb16_in1k_300ep",
        f"data.root={photos}",
        "data.batch_size=2",
        "data.num_workers=0",
        "trainer=cpu",
        "trainer.devices=1",
        "trainer.max_steps=1",
        "trainer.limit_val_batches=1",
        "callbacks.knn.num_train=4",
        "callbacks.knn.num_val=4",
        "logger=[csv]",
        f"output_dir={tmp_path}",
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["steps"] == 1
    assert metrics["images_seen"] == 4  # two batches accumulated
    assert metrics["train/loss"] == pytest.approx(6 * (1 - metrics["train/skill"]) * 0.4636, rel=1e-3)
