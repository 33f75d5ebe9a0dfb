"""An ONNX graph: onnxruntime runs it, whatever the number of images."""

import json

import onnxruntime
import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.export import onnx_graph
from cim_lightning.export.onnx_graph import Graph


def test_onnxruntime_says_what_the_backbone_says_of_any_number_of_images(backbone, images, tmp_path):
    differences = Graph(1e-4, None).export(backbone, images, tmp_path, {})
    assert differences.keys() == {"pooled", "grid"}
    assert max(differences.values()) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx")
    for count in (1, 5):
        shown = torch.randn(count, 3, 48, 48)
        pooled, grid = session.run(["pooled", "grid"], {"images": shown.numpy()})
        with torch.no_grad():
            wanted = backbone(shown)
        torch.testing.assert_close(torch.from_numpy(pooled), wanted.pooled, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(grid), wanted.grid, rtol=1e-4, atol=1e-4)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["mean"]) == [0.2, 0.4, 0.7]
    assert json.loads(said["std"]) == [0.1, 0.3, 0.5]
    assert json.loads(said["input_size"]) == [3, 48, 48]


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(onnx_graph, "NEEDED", ("onnx", "nowhere_to_be_found"))
    with pytest.raises(ConfigError, match=r"format=onnx: nowhere_to_be_found .* try pip install"):
        Graph(1e-4, None)
