"""Every backbone of conf/: trained for two steps, exported, and loaded with timm only."""

import json

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file

from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.cropping.exemplars import Crops
from cim_lightning.formats.timm_format import TimmFormat
from cim_lightning.models.timm_backbone import TimmBackbone

SLOW = {"vit_large_patch16"}
BACKBONES = [
    pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in sorted((CONF / "backbone").glob("[!_]*.yaml"))
]
SMALL = ["decoder.width=32", "decoder.num_heads=4", "cropping.num_exemplars=2", "optim.warmup=0.0"]
SMALL += [
    "cropping.rotation=45.0",
    "cropping.context_size=64",
    "cropping.exemplar_size=32",
    "optim.base_lr=1e-3",
]


def composed(*overrides: str):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("pretrain", [*SMALL, *overrides])


def train(method, cropping) -> None:
    """Take two optimizer steps on random crops."""
    optimizer, _ = method.optim(method, 256, 2)
    views = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for seed in range(2):
        crops: Crops = cropping(views, seed)
        optimizer.zero_grad()
        method.compute_losses(crops)["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_trained_backbone_loads_through_timm_to_identical_features(name, tmp_path):
    cfg = composed(f"backbone={name}")
    method = instantiate(cfg.method, _convert_="all")
    backbone = method.backbone
    start = {key: tensor.clone() for key, tensor in backbone.model.state_dict().items()}
    train(method, instantiate(cfg.cropping, _convert_="all"))
    changed = [
        key for key, tensor in backbone.model.state_dict().items() if not torch.equal(start[key], tensor)
    ]
    assert len(changed) > 0.8 * len(start)

    TimmFormat(1e-6).write(backbone, 64, tmp_path)
    config = json.loads((tmp_path / "backbone.json").read_text())
    assert config["width"] == backbone.dim
    assert config["mean"] == [0.485, 0.456, 0.406]
    assert config["std"] == [0.229, 0.224, 0.225]
    assert config["image_size"] == 64
    weights = tmp_path / "backbone.safetensors"
    loaded = timm.create_model(**config["create_model"], checkpoint_path=str(weights)).eval()
    assert load_file(weights).keys() == loaded.state_dict().keys()
    backbone.eval()
    for size in ((64, 64), (32, 32)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            assert backbone(images).grid.isfinite().all()
            assert torch.equal(loaded.forward_features(images), backbone.model.forward_features(images))
            assert torch.equal(loaded(images), backbone(images).pooled)


def test_the_default_backbone_is_the_backbone_of_the_paper():
    cfg = composed()
    assert cfg.backbone.name == "vit_base_patch16_224"
    assert (cfg.backbone.positions, cfg.backbone.freeze_patch_embed, cfg.backbone.init) == (
        "sincos",
        True,
        "xavier",
    )


def test_list_arguments_are_restored_from_json(tmp_path):
    cfg = composed("backbone=convnext_tiny", "+backbone.kwargs={depths:[1,1,1,1],dims:[4,4,8,8]}")
    backbone = instantiate(cfg.backbone, _convert_="all")
    TimmFormat(1e-6).write(backbone, 32, tmp_path)
    config = json.loads((tmp_path / "backbone.json").read_text())
    assert config["create_model"]["depths"] == [1, 1, 1, 1]
    timm.create_model(**config["create_model"], checkpoint_path=str(tmp_path / "backbone.safetensors"))


def test_other_channel_counts_are_exported_with_the_weights(tmp_path):
    kwargs = {"depth": 1, "embed_dim": 8, "num_heads": 2, "dynamic_img_size": True}
    scale = {"mean": [0.5] * 4, "std": [0.5] * 4}
    backbone = TimmBackbone("vit_tiny_patch16_224", kwargs, in_channels=4, **scale).eval()
    TimmFormat(1e-6).write(backbone, 32, tmp_path)
    config = json.loads((tmp_path / "backbone.json").read_text())
    weights = str(tmp_path / "backbone.safetensors")
    loaded = timm.create_model(**config["create_model"], checkpoint_path=weights).eval()
    images = torch.randn(1, 4, 32, 48)
    assert torch.equal(loaded(images), backbone(images).pooled)
