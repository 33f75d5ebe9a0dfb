"""An ONNX graph in onnxruntime, with any batch size and, where the architecture allows it, any image size."""

import json

import onnxruntime
import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.formats import onnx_format
from cim_lightning.formats.onnx_format import ONNXFormat
from cim_lightning.models.timm_backbone import TimmBackbone

pytestmark = pytest.mark.usefixtures("untyped")


def check_outputs(session, backbone, shape):
    images = torch.randn(shape)
    pooled, grid = session.run(["pooled", "grid"], {"images": images.numpy()})
    with torch.no_grad():
        expected = backbone(images)
    torch.testing.assert_close(torch.from_numpy(pooled), expected.pooled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(grid), expected.grid, rtol=1e-4, atol=1e-4)


@pytest.mark.user_input("export", "`format=onnx` of each family of backbones", "any batch and image size")
def test_onnxruntime_gives_the_same_features_at_any_batch_and_image_size(backbone, tmp_path):
    differences = ONNXFormat(1e-4, None).export(backbone, 48, tmp_path, {})
    assert differences.keys() == {"pooled", "grid"}
    assert max(differences.values()) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx")
    for shape in ((1, 3, 48, 48), (5, 3, 48, 48), (2, 3, 64, 96), (2, 3, 96, 64)):
        check_outputs(session, backbone, shape)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["mean"]) == [0.2, 0.4, 0.7]
    assert json.loads(metadata["std"]) == [0.1, 0.3, 0.5]
    assert json.loads(metadata["input_size"]) == [3, 48, 48]


@pytest.mark.user_input("export", "`format=onnx` of a ViT with a fixed image size", "a line that says so")
def test_a_fixed_image_size_is_reported(tmp_path, caplog):
    caplog.set_level("INFO")
    kwargs = {"depth": 1, "embed_dim": 16, "num_heads": 2, "img_size": 32}
    backbone = TimmBackbone("vit_tiny_patch16_224", kwargs).eval()
    ONNXFormat(1e-4, None).export(backbone, 32, tmp_path, {})
    assert f"{tmp_path}/backbone.onnx: the size of the images is fixed: 32x32" in caplog.text
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx")
    check_outputs(session, backbone, (5, 3, 32, 32))
    record = json.loads((tmp_path / "export.json").read_text())["backbone.onnx"]
    assert record["compared_on"] == "3 images with 3 channels of 32 x 32 pixels"


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setattr(onnx_format, "PACKAGES", ("onnx", "nowhere_to_be_found"))
    with pytest.raises(ConfigError, match=r"needs nowhere_to_be_found; try pip install"):
        ONNXFormat(1e-4, None)
