"""Every backbone of conf/: trained for two steps, exported, and loaded with timm only."""

import json

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
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
    loaded = documented_line(config, tmp_path)
    assert load_file(tmp_path / "backbone.safetensors").keys() == loaded.state_dict().keys()
    backbone.eval()
    for size in ((64, 64), (32, 32)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            assert backbone(images).grid.isfinite().all()
            assert torch.equal(loaded.forward_features(images), backbone.model.forward_features(images))
            assert torch.equal(loaded(images), backbone(images).pooled)


@pytest.mark.user_input(
    "export", "the loading line of the documentation", "timm's data config has our mean, std and image size"
)
def test_timm_knows_the_input_of_the_exported_weights(backbone, tmp_path):
    config = written(backbone, 48, tmp_path)
    data_config = timm.data.resolve_model_data_config(documented_line(config, tmp_path))
    assert tuple(data_config["input_size"]) == (3, 48, 48)
    assert (tuple(data_config["mean"]), tuple(data_config["std"])) == ((0.2, 0.4, 0.7), (0.1, 0.3, 0.5))
    assert (data_config["interpolation"], data_config["crop_pct"]) == ("bicubic", 1.0)
    transform = timm.data.create_transform(**data_config)
    pixels = transform(Image.new("RGB", (90, 70), (51, 102, 255)))  # 0.2, 0.4 and 1.0
    expected = torch.tensor([0.0, 0.0, 0.6]).view(3, 1, 1).expand(3, 48, 48)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)


@pytest.mark.user_input(
    "export", "`timm.create_model` of the exported ViT at another image size", "positions are resampled"
)
def test_timm_loads_the_weights_for_another_image_size(vit, tmp_path):
    config = written(vit, 64, tmp_path)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = vit(images).pooled  # a dynamic image size resamples the same table in each pass
        for size in (64, 96):
            model = documented_line(config, tmp_path, img_size=size)
            tokens = (size // 8) ** 2 + 1
            assert model.pos_embed.shape == (1, tokens, 16)
            torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)


def test_timm_adds_a_classifier_to_the_exported_weights(backbone, tmp_path):
    config = written(backbone, 48, tmp_path)
    model = documented_line(config, tmp_path, num_classes=7)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert model(images).shape == (2, 7)
        assert torch.equal(model.forward_features(images), backbone.model.forward_features(images))


def written(backbone, image_size, folder):
    TimmFormat(1e-6).export(backbone, image_size, folder, {})
    return json.loads((folder / "backbone.json").read_text())


def documented_line(config, folder, **changed):
    overlay = config["pretrained_cfg"] | {"file": str(folder / "backbone.safetensors")}
    arguments = config["create_model"] | changed
    return timm.create_model(**arguments, pretrained=True, pretrained_cfg_overlay=overlay).eval()


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
    documented_line(config, tmp_path)


def test_other_channel_counts_are_exported_with_the_weights(tmp_path):
    kwargs = {"depth": 1, "embed_dim": 8, "num_heads": 2, "dynamic_img_size": True}
    scale = {"mean": [0.5] * 4, "std": [0.5] * 4}
    backbone = TimmBackbone("vit_tiny_patch16_224", kwargs, in_channels=4, **scale).eval()
    TimmFormat(1e-6).write(backbone, 32, tmp_path)
    config = json.loads((tmp_path / "backbone.json").read_text())
    loaded = documented_line(config, tmp_path)
    images = torch.randn(1, 4, 32, 48)
    assert torch.equal(loaded(images), backbone(images).pooled)
