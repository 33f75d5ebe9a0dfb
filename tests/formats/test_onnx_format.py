"""An ONNX graph in onnxruntime, with any batch size."""

import json

import onnxruntime
import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.formats import onnx_format
from cim_lightning.formats.onnx_format import ONNXFormat


def test_onnxruntime_gives_the_same_features_at_any_batch_size(backbone, tmp_path):
    differences = ONNXFormat(1e-4, None).export(backbone, 48, tmp_path, {})
    assert differences.keys() == {"pooled", "grid"}
    assert max(differences.values()) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx")
    for count in (1, 5):
        images = torch.randn(count, 3, 48, 48)
        pooled, grid = session.run(["pooled", "grid"], {"images": images.numpy()})
        with torch.no_grad():
            expected = backbone(images)
        torch.testing.assert_close(torch.from_numpy(pooled), expected.pooled, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(grid), expected.grid, rtol=1e-4, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["mean"]) == [0.2, 0.4, 0.7]
    assert json.loads(metadata["std"]) == [0.1, 0.3, 0.5]
    assert json.loads(metadata["input_size"]) == [3, 48, 48]


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setattr(onnx_format, "PACKAGES", ("onnx", "nowhere_to_be_found"))
    with pytest.raises(ConfigError, match=r"needs nowhere_to_be_found; try pip install"):
        ONNXFormat(1e-4, None)
