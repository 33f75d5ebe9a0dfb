"""Exported backbones and timm weights: what their files must have, and the backbones that they give."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cim_lightning.checkpoint import ExportedBackbone, PlainWeights, read_weights
from cim_lightning.errors import ConfigError
from cim_lightning.formats.timm_format import TimmFormat
from cim_lightning.models.module_backbone import ModuleBackbone
from cim_lightning.models.timm_backbone import TimmBackbone


def test_an_exported_backbone_has_the_same_weights_and_normalization(tmp_path):
    scale = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    backbone = TimmBackbone("test_resnet", **scale).eval()
    TimmFormat(0).write(backbone, 40, tmp_path)
    weights = read_weights(str(tmp_path))
    assert isinstance(weights, ExportedBackbone)
    assert weights.image_size() == 40
    loaded = weights.load().eval()
    assert loaded.normalization == scale
    images = torch.rand(2, 3, 40, 40)
    expected = backbone(backbone.normalize(images))
    assert torch.equal(loaded(loaded.normalize(images)).pooled, expected.pooled)


@pytest.mark.parametrize("normalize", [None, {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}])
def test_a_backbone_of_an_earlier_version_keeps_its_normalization(tmp_path, normalize):
    TimmFormat(0).write(TimmBackbone("test_resnet"), 40, tmp_path)
    file = tmp_path / "backbone.json"
    spec = json.loads(file.read_text())
    del spec["mean"], spec["std"]
    file.write_text(json.dumps(spec | {"normalize": normalize}))
    loaded = read_weights(str(tmp_path)).load()
    assert loaded.normalization == (normalize or {"mean": [0.0] * 3, "std": [1.0] * 3})


@pytest.mark.parametrize("missing", ["mean", "std", "image_size", "create_model"])
def test_an_error_names_the_checkpoint_and_the_missing_entry(missing):
    spec = {"create_model": {"model_name": "test_resnet", "num_classes": 0}, "image_size": 64}
    spec |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    del spec[missing]
    weights = ExportedBackbone(Path("b.safetensors"), spec, {})
    message = rf"^checkpoint=b\.safetensors: backbone\.json beside it has no {missing}; copy or export both "
    with pytest.raises(ConfigError, match=message):
        weights.image_size() if missing == "image_size" else weights.load()


@pytest.mark.user_input("weights", "a backbone.json that does not describe the weights beside it", "one line")
@pytest.mark.parametrize(
    ("entry", "value", "reason"),
    [
        (
            "create_model",
            {"model_name": "test_vit"},
            r"its weights do not fit test_vit \(\d+ of \d+ tensors missing",
        ),
        (
            "create_model",
            {"model_name": "test_resnet", "in_chans": 1},
            r"describes no model of timm \(mean=.*must",
        ),
        ("create_model", {"model_name": "none"}, r"describes no model of timm \(name=none: is not a model"),
        ("create_model", {"model_name": 5}, r"describes no model of timm \(name=5: is not a model"),
        (
            "create_model",
            {"model_name": "hf-hub:a/b"},
            r"describes no model of timm \(name=hf-hub:a/b: is not",
        ),
        (
            "create_model",
            {"model_name": "test_resnet", "pretrained": True},
            r"describes no model of timm \(kwargs=",
        ),
        ("create_model", {"model_name": "test_resnet", "a": 1}, r"describes no model of timm \(kwargs=.*'a'"),
        ("create_model", ["test_resnet"], r"has create_model=\[test_resnet\]"),
        ("create_model", {"model_name": "test_resnet", "in_chans": "3"}, r"describes no model of timm"),
        ("mean", "0.5", r"has mean=0\.5"),
        ("mean", ["a", "b", "c"], r"describes no model of timm"),
        ("std", [0.0, 1.0, 1.0], r"describes no model of timm \(std="),
    ],
)
def test_a_description_of_other_weights_is_refused_in_one_line(tmp_path, entry, value, reason):
    TimmFormat(0).write(TimmBackbone("test_resnet"), 40, tmp_path)
    file = tmp_path / "backbone.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {entry: value}))
    start = r"^checkpoint=\S+backbone\.safetensors: (backbone\.json beside it )?"
    with pytest.raises(ConfigError, match=f"{start}{reason}") as raised:
        read_weights(str(tmp_path)).load()
    assert "\n" not in str(raised.value)


@pytest.mark.user_input(
    "weights", "safetensors of other shapes beside a backbone.json", "one line with their names"
)
def test_weights_of_other_shapes_are_refused_in_one_line(tmp_path):
    TimmFormat(0).write(TimmBackbone("test_resnet"), 40, tmp_path)
    state = {name: tensor[None].clone() for name, tensor in read_weights(str(tmp_path)).state.items()}
    save_file(state, tmp_path / "backbone.safetensors")
    with pytest.raises(
        ConfigError, match=r"its weights do not fit test_resnet \(\d+ of another shape: conv1\.0\.weight"
    ):
        read_weights(str(tmp_path)).load()


@pytest.mark.parametrize("normalize", ["x", [1], {"_target_": "os.mkdir", "path": "executed"}, {"mean": "x"}])
def test_a_damaged_normalization_of_an_earlier_version_is_not_built(tmp_path, monkeypatch, normalize):
    monkeypatch.chdir(tmp_path)
    TimmFormat(0).write(TimmBackbone("test_resnet"), 40, tmp_path)
    file = tmp_path / "backbone.json"
    spec = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("mean", "std")}
    file.write_text(json.dumps(spec | {"normalize": normalize}))
    if isinstance(normalize, dict) and "_target_" in normalize:
        assert read_weights(str(tmp_path)).load().normalization == {"mean": [0.0] * 3, "std": [1.0] * 3}
    else:
        with pytest.raises(ConfigError, match=r"^checkpoint=\S+: backbone\.json beside it has (no )?mean"):
            read_weights(str(tmp_path)).load()
    assert not (tmp_path / "executed").exists()


def test_timm_weights_do_not_fit_a_backbone_that_is_no_timm_model(tmp_path):
    save_file(TimmBackbone("test_resnet").timm_model().state_dict(), tmp_path / "w.safetensors")
    weights = read_weights(str(tmp_path / "w.safetensors"))
    own = ModuleBackbone(nn.Conv2d(3, 4, 2, stride=2), dim=4, patch_size=2)
    with pytest.raises(ConfigError, match=r"^checkpoint=\S+: are timm weights, but Conv2d is not a timm"):
        weights.load(own)
    assert read_weights("untrained").load(own) is own
    with pytest.raises(ConfigError, match=r"^weights_layout=mae: there are no weights; try weights_"):
        read_weights("untrained").load(own, "mae")


@pytest.mark.parametrize("source", ["untrained", "timm", "hf-hub:owner/name"])
def test_weights_without_a_file_have_no_architecture(source):
    weights = read_weights(source)
    assert weights == PlainWeights(source, None)
    with pytest.raises(ConfigError, match=rf"^checkpoint={source}: does not say which architecture"):
        weights.image_size()
