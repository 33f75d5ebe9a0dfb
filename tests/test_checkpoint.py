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
    message = rf"^checkpoint=b\.safetensors: has no {missing} in backbone\.json; try the run folder$"
    with pytest.raises(ConfigError, match=message):
        weights.image_size() if missing == "image_size" else weights.load()


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
