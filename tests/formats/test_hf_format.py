"""A Hugging Face folder that timm loads offline, without the metadata of timm's own weights."""

import json

import pytest
import timm
import torch

from cim_lightning.formats.hf_format import HFFormat
from cim_lightning.models.timm_backbone import TimmBackbone


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.socket.connect", None)


def test_timm_loads_the_folder_to_identical_features(backbone, tmp_path):
    differences = HFFormat(1e-6).export(backbone, 48, tmp_path, {})
    assert differences == {"forward_features": 0, "forward": 0}
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(images), backbone(images).pooled)
        assert loaded(images).std() > 0.01


def test_timm_adds_a_classifier_of_any_size(backbone, tmp_path):
    HFFormat(1e-6).export(backbone, 48, tmp_path, {})
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert loaded(images).shape == (2, 7)
        assert torch.equal(loaded.forward_features(images), backbone.model.forward_features(images))


def test_the_config_describes_the_input_and_not_timms_weights(backbone, tmp_path):
    HFFormat(1e-6).export(backbone, 48, tmp_path, {})
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0)
    cfg = loaded.pretrained_cfg
    assert (tuple(cfg["mean"]), tuple(cfg["std"])) == ((0.2, 0.4, 0.7), (0.1, 0.3, 0.5))
    assert (tuple(cfg["input_size"]), cfg["crop_pct"], cfg["num_classes"]) == ((3, 48, 48), 1.0, 0)
    assert timm.data.resolve_model_data_config(loaded)["input_size"] == (3, 48, 48)
    written = json.loads((tmp_path / "config.json").read_text())
    foreign = {
        "tag",
        "license",
        "url",
        "hf_hub_id",
        "origin_url",
        "paper_ids",
        "paper_name",
        "notes",
        "description",
    }
    assert not foreign & {*written, *written["pretrained_cfg"]}
    assert all(cfg.get(key) is None for key in foreign)


def test_other_channel_counts_reload(tmp_path, caplog):
    kwargs = {"depth": 1, "embed_dim": 8, "num_heads": 2, "dynamic_img_size": True}
    scale = {"mean": [0.0] * 5, "std": [1.0, 2.0, 3.0, 4.0, 5.0]}
    backbone = TimmBackbone("vit_tiny_patch16_224", kwargs, in_channels=5, **scale).eval()
    HFFormat(1e-6).export(backbone, 32, tmp_path, {})
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    images = torch.randn(2, 5, 32, 32)
    assert torch.equal(loaded(images), backbone(images).pooled)
    assert {key: list(loaded.pretrained_cfg[key]) for key in scale} == scale
